-- A change in SQL reaches the running processes within a second, however it was made.
CREATE FUNCTION sluice_notify_mqtt_auth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Without a payload all notifications of one transaction are delivered as one.
    PERFORM pg_notify('sluice_mqtt_auth', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER sluice_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON mqtt_users
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_notify_mqtt_auth();
CREATE TRIGGER sluice_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON mqtt_acl
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_notify_mqtt_auth();

-- The payload is the user whose rules changed; an empty one (after TRUNCATE) means every user.
CREATE FUNCTION sluice_notify_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        PERFORM pg_notify('sluice_rules', OLD.user_id);
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        PERFORM pg_notify('sluice_rules', NEW.user_id);
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('sluice_rules', '');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER sluice_notify AFTER INSERT OR UPDATE OR DELETE ON user_configs
    FOR EACH ROW EXECUTE FUNCTION sluice_notify_rules();
CREATE TRIGGER sluice_notify_all AFTER TRUNCATE ON user_configs
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_notify_rules();

-- A plain UPDATE need not think of `updated_at`.
CREATE FUNCTION sluice_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TRIGGER sluice_touch BEFORE UPDATE ON user_configs FOR EACH ROW EXECUTE FUNCTION sluice_touch();
