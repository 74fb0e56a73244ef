-- Groups of a user's devices, which rules name as `@GROUP` where a device could stand. `device_id` is what `devices` of
-- a rule has: the device's own id, without the name of a domain.
CREATE TABLE device_groups (
    user_id    text COLLATE "C" NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    group_name text COLLATE "C" NOT NULL CHECK (group_name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    device_id  text COLLATE "C" NOT NULL CHECK (length(device_id) BETWEEN 1 AND 128 AND device_id !~ '[[:cntrl:]]'),
    added_at   timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, group_name, device_id)
);

-- When each user's groups changed last: workers read the groups again only where this differs.
CREATE TABLE device_group_versions (
    user_id    text COLLATE "C" PRIMARY KEY,
    changed_at timestamptz      NOT NULL
);

-- Once for each statement, however many devices it adds: bounds, the version, the notification, the operators' trail.
CREATE FUNCTION sluice_groups_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    changes jsonb; -- by user: {"before": {GROUP: [DEVICE]}, "after": likewise}
    owner text;
    change jsonb;
    group_count bigint;
    device_count bigint;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE device_group_versions SET changed_at = clock_timestamp();
        PERFORM pg_notify('sluice_rules', '');
        INSERT INTO operator_audit (action, subject) VALUES (TG_OP, TG_TABLE_NAME);
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        SELECT jsonb_object_agg(user_id, jsonb_build_object('after', devices)) INTO changes FROM (
            SELECT user_id, jsonb_object_agg(group_name, devices) AS devices FROM (
                SELECT user_id, group_name, jsonb_agg(device_id) AS devices FROM new_rows GROUP BY 1, 2) AS one
            GROUP BY 1) AS all_of;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT jsonb_object_agg(user_id, jsonb_build_object('before', devices)) INTO changes FROM (
            SELECT user_id, jsonb_object_agg(group_name, devices) AS devices FROM (
                SELECT user_id, group_name, jsonb_agg(device_id) AS devices FROM old_rows GROUP BY 1, 2) AS one
            GROUP BY 1) AS all_of;
    ELSE
        SELECT jsonb_object_agg(user_id, sides) INTO changes FROM (
            SELECT user_id, jsonb_object_agg(side, devices) AS sides FROM (
                SELECT user_id, side, jsonb_object_agg(group_name, devices) AS devices FROM (
                    SELECT user_id, 'before' AS side, group_name, jsonb_agg(device_id) AS devices FROM old_rows GROUP BY 1, 3
                    UNION ALL
                    SELECT user_id, 'after', group_name, jsonb_agg(device_id) FROM new_rows GROUP BY 1, 3) AS one
                GROUP BY 1, 2) AS of_side
            GROUP BY 1) AS all_of;
    END IF;
    -- In order, so that two transactions never wait for each other.
    FOR owner, change IN SELECT * FROM jsonb_each(coalesce(changes, '{}')) ORDER BY key COLLATE "C" LOOP
        INSERT INTO device_group_versions VALUES (owner, clock_timestamp())
        ON CONFLICT (user_id) DO UPDATE SET changed_at = clock_timestamp();
        -- The row is locked: what is counted now holds until the commit.
        IF change ? 'after' THEN
            SELECT count(*), count(DISTINCT group_name) INTO device_count, group_count FROM device_groups WHERE user_id = owner;
            IF group_count > 100 THEN
                RAISE check_violation USING MESSAGE = format('the user %s would have %s groups; 100 is the maximum', owner, group_count);
            ELSIF device_count > 10000 THEN
                RAISE check_violation USING MESSAGE = format(
                    'the groups of the user %s would have %s devices; 10000 is the maximum, of all together', owner, device_count);
            END IF;
        END IF;
        PERFORM pg_notify('sluice_rules', owner);
        INSERT INTO operator_audit (action, subject, key, before, after)
        VALUES (TG_OP, TG_TABLE_NAME, owner, change -> 'before', change -> 'after');
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER groups_added AFTER INSERT ON device_groups REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_groups_changed();
CREATE TRIGGER groups_removed AFTER DELETE ON device_groups REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_groups_changed();
CREATE TRIGGER groups_changed AFTER UPDATE ON device_groups REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_groups_changed();
CREATE TRIGGER groups_truncated AFTER TRUNCATE ON device_groups
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_groups_changed();
