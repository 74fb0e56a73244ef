-- Which dead letters are handled, or open again, whatever statement says so: a line of the audit for each run. What
-- workers do about them, replays, is in the tables themselves.
CREATE FUNCTION sluice_audit_letters() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO operator_audit (action, subject, key, after)
    SELECT TG_OP, TG_TABLE_NAME, run_id, jsonb_build_object('letters', count(*)) FROM changed GROUP BY run_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER operator_audit_insert AFTER INSERT ON replayed_letters REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT WHEN (current_setting('application_name') <> 'sluice-worker')
    EXECUTE FUNCTION sluice_audit_letters();
CREATE TRIGGER operator_audit_update AFTER UPDATE ON replayed_letters REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT WHEN (current_setting('application_name') <> 'sluice-worker')
    EXECUTE FUNCTION sluice_audit_letters();
CREATE TRIGGER operator_audit_delete AFTER DELETE ON replayed_letters REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT WHEN (current_setting('application_name') <> 'sluice-worker')
    EXECUTE FUNCTION sluice_audit_letters();
CREATE TRIGGER operator_audit_truncate AFTER TRUNCATE ON replayed_letters
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_audit();

-- Somebody who ends a run, or has it go on.
CREATE TRIGGER operator_audit_update AFTER UPDATE ON replays
    FOR EACH ROW WHEN (current_setting('application_name') <> 'sluice-worker') EXECUTE FUNCTION sluice_audit();
CREATE TRIGGER operator_audit_truncate AFTER TRUNCATE ON replays FOR EACH STATEMENT EXECUTE FUNCTION sluice_audit();

-- And who has brought the database to which schema.
CREATE TRIGGER operator_audit AFTER INSERT OR UPDATE OR DELETE ON sluice_migrations
    FOR EACH ROW EXECUTE FUNCTION sluice_audit();
