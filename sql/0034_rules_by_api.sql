-- Rules that the operator has set for a user by the HTTP API are versions of the way `API`, by `operator`.
CREATE OR REPLACE FUNCTION sluice_keep_version() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
            CASE WHEN application = 'sluice-worker' THEN 'MQTT' WHEN application LIKE 'sluice-web/%' THEN 'API'
                 WHEN application LIKE 'sluice/%' THEN 'COMMAND' ELSE 'SQL' END,
            CASE WHEN application = 'sluice-worker' THEN owner
                 ELSE coalesce(substring(application FROM '^sluice(?:-web)?/(.+)$'), session_user) END,
            present);
    DELETE FROM rule_versions WHERE user_id = owner AND version <= coalesce(latest, 0) + 1 - 50;
    RETURN NULL;
END
$$;
