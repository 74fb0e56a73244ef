-- The rights of the accounts that there are on reading back: a user asks for the rules in force and for the open
-- alerts, and hears the answers, also on a topic of the user's choice below `responses`; Sluice is the other end.
INSERT INTO mqtt_acl (username, permission, action, topic)
SELECT username, 'allow', CASE WHEN asks = (kind = 'user') THEN 'publish' ELSE 'subscribe' END,
       'users/' || coalesce(user_id, '+') || '/' || topic
FROM mqtt_users,
     (VALUES ('rules/get', true), ('alerts/get', true), ('rules', false), ('alerts/open', false), ('responses/#', false))
     AS topics (topic, asks)
WHERE kind IN ('user', 'service')
ON CONFLICT DO NOTHING;

-- The versions of each user's rules, whichever way they changed: the latest 50 of each user.
CREATE TABLE rule_versions (
    user_id text COLLATE "C" NOT NULL,
    version integer          NOT NULL,
    at      timestamptz      NOT NULL DEFAULT clock_timestamp(),
    way     text             NOT NULL, -- MQTT, COMMAND, SQL; BEFORE for what was there when the versions began
    -- the user, the operator's name in the operating system, or the role
    by      text,
    rules   jsonb            NOT NULL,
    PRIMARY KEY (user_id, version)
);

INSERT INTO rule_versions (user_id, version, at, way, rules)
SELECT user_id, 1, updated_at, 'BEFORE', rules FROM user_configs;

CREATE FUNCTION sluice_keep_version() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    application text := current_setting('application_name');
    -- A deleted row counts as no rules.
    owner text := CASE TG_OP WHEN 'DELETE' THEN OLD.user_id ELSE NEW.user_id END;
    present jsonb := CASE TG_OP WHEN 'DELETE' THEN '[]' ELSE NEW.rules END;
    latest integer;
BEGIN
    IF TG_OP = 'UPDATE' AND (owner, present) IS NOT DISTINCT FROM (OLD.user_id, OLD.rules) THEN
        RETURN NULL;
    END IF;
    -- The user's row is locked, so versions of one user do not come at the same time.
    SELECT max(version) INTO latest FROM rule_versions WHERE user_id = owner;
    INSERT INTO rule_versions (user_id, version, way, by, rules)
    VALUES (owner, coalesce(latest, 0) + 1,
            CASE WHEN application = 'sluice-worker' THEN 'MQTT' WHEN application LIKE 'sluice/%' THEN 'COMMAND' ELSE 'SQL' END,
            CASE WHEN application = 'sluice-worker' THEN owner
                 ELSE coalesce(substring(application FROM '^sluice/(.+)$'), session_user) END,
            present);
    DELETE FROM rule_versions WHERE user_id = owner AND version <= coalesce(latest, 0) + 1 - 50;
    RETURN NULL;
END
$$;
CREATE TRIGGER sluice_keep_version AFTER INSERT OR UPDATE OR DELETE ON user_configs
    FOR EACH ROW EXECUTE FUNCTION sluice_keep_version();
