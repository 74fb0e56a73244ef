-- What operators have changed: accounts, rights and rules, by SQL or by a command, and replays. The owner of the
-- tables may delete old lines; the roles of Sluice's processes can neither change nor remove one.
CREATE TABLE operator_audit (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    role        text        NOT NULL DEFAULT session_user,
    application text        NOT NULL DEFAULT current_setting('application_name'),
    -- The commands name the user of the operating system behind their own name.
    os_user     text        GENERATED ALWAYS AS (substring(application FROM '^sluice/(.+)$')) STORED,
    action      text        NOT NULL, -- of a statement, or `REPLAY` of a command
    subject     text        NOT NULL, -- the table
    key         text,                 -- the account, the user or the run
    before      jsonb,
    after       jsonb
);
CREATE INDEX operator_audit_at ON operator_audit (at);

CREATE FUNCTION sluice_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    was jsonb := CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN to_jsonb(OLD) END;
    after_ jsonb := CASE WHEN TG_OP IN ('UPDATE', 'INSERT') THEN to_jsonb(NEW) END;
    one jsonb := coalesce(after_, was);
BEGIN
    -- What users ask for by MQTT the workers write; they are no operators, and their rules are in the table.
    IF TG_TABLE_NAME = 'user_configs' AND current_setting('application_name') = 'sluice-worker' THEN
        RETURN NULL;
    END IF;
    IF was ->> 'password_hash' IS DISTINCT FROM after_ ->> 'password_hash' THEN
        after_ := after_ || '{"password": "new"}';
    END IF;
    was := was - '{password_hash,salt,iterations,rotated_at,updated_at}'::text[];
    after_ := after_ - '{password_hash,salt,iterations,rotated_at,updated_at}'::text[];
    IF was IS DISTINCT FROM after_ OR TG_OP = 'TRUNCATE' THEN
        INSERT INTO operator_audit (action, subject, key, before, after)
        VALUES (TG_OP, TG_TABLE_NAME, coalesce(one ->> 'username', one ->> 'user_id', one ->> 'run_id'), was, after_);
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['mqtt_users', 'mqtt_acl', 'user_configs'] LOOP
        EXECUTE format('CREATE TRIGGER operator_audit AFTER INSERT OR UPDATE OR DELETE ON %I'
                       ' FOR EACH ROW EXECUTE FUNCTION sluice_audit()', name);
        EXECUTE format('CREATE TRIGGER operator_audit_truncate AFTER TRUNCATE ON %I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION sluice_audit()', name);
    END LOOP;
    -- Their progress is in the table itself.
    CREATE TRIGGER operator_audit AFTER INSERT OR DELETE ON replays FOR EACH ROW EXECUTE FUNCTION sluice_audit();
END
$$;
