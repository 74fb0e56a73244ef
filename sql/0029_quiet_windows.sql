-- When channels are silent: quiet hours of a user, of one device or rule or all, and the operator's planned maintenance
-- for every user. They hold back channels only. Once (starts_at, ends_at), or again and again by the wall clock of a
-- named time zone: on these weekdays from from_time to until_time, which may be on the next day.
CREATE TABLE quiet_windows (
    id         bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    text COLLATE "C" CHECK (length(user_id) BETWEEN 1 AND 128), -- NULL: the operator's, for every user
    name       text COLLATE "C" NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    device_id  text COLLATE "C" CHECK (length(device_id) BETWEEN 1 AND 300), -- NULL: every device
    rule_id    text COLLATE "C" CHECK (length(rule_id) BETWEEN 1 AND 256),   -- NULL: every rule
    -- What is held back: alerts of these severities; NULL for all.
    severities text[]           CHECK (cardinality(severities) BETWEEN 1 AND 16),
    starts_at  timestamptz,
    ends_at    timestamptz,
    time_zone  text,
    weekdays   text[]           CHECK (cardinality(weekdays) BETWEEN 1 AND 7
               AND weekdays <@ '{mon,tue,wed,thu,fri,sat,sun}'), -- on which it starts
    from_time  text             CHECK (from_time ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    until_time text             CHECK (until_time ~ '^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$'),
    enabled    boolean          NOT NULL DEFAULT true,
    changed_at timestamptz      NOT NULL DEFAULT now(), -- what was before is not judged by it
    CONSTRAINT quiet_windows_once_or_recurring CHECK (
        num_nulls(starts_at, ends_at) IN (0, 2) AND num_nulls(time_zone, weekdays, from_time, until_time) IN (0, 4)
        AND (starts_at IS NULL) <> (time_zone IS NULL)),
    CONSTRAINT quiet_windows_once CHECK (
        isfinite(starts_at) AND isfinite(ends_at) AND ends_at > starts_at
        AND ends_at - starts_at <= interval '366 days'),
    CONSTRAINT quiet_windows_recurring CHECK (from_time <> until_time)
);
CREATE UNIQUE INDEX quiet_windows_name ON quiet_windows (coalesce(user_id, ''), name);

CREATE FUNCTION sluice_quiet_window_changes() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.time_zone IS NOT NULL AND NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = NEW.time_zone) THEN
        RAISE check_violation USING MESSAGE =
            format('there is no time zone %s; name one of the IANA''s, such as Europe/Berlin', NEW.time_zone);
    END IF;
    NEW.changed_at := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER quiet_window_changes BEFORE INSERT OR UPDATE ON quiet_windows
    FOR EACH ROW EXECUTE FUNCTION sluice_quiet_window_changes();

CREATE FUNCTION sluice_quiet_window_added() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Two at once may both be the last one: a bound, not a count.
    IF (SELECT count(*) FROM quiet_windows WHERE user_id IS NOT DISTINCT FROM NEW.user_id) > 20 THEN
        RAISE check_violation USING MESSAGE =
            format('%s has 20 windows, the maximum', coalesce('the user ' || NEW.user_id, 'the operator'));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER quiet_window_added AFTER INSERT OR UPDATE OF user_id ON quiet_windows
    FOR EACH ROW EXECUTE FUNCTION sluice_quiet_window_added();
CREATE TRIGGER operator_audit AFTER INSERT OR UPDATE OR DELETE ON quiet_windows
    FOR EACH ROW EXECUTE FUNCTION sluice_audit();
CREATE TRIGGER operator_audit_truncate AFTER TRUNCATE ON quiet_windows
    FOR EACH STATEMENT EXECUTE FUNCTION sluice_audit();

-- `held`: under a window that ends at held_until. `superseded`: it was held, and when the window ended there was nothing
-- of it to tell, or something newer.
ALTER TABLE channel_deliveries
    ADD COLUMN held_until timestamptz,
    DROP CONSTRAINT channel_deliveries_state_check,
    DROP CONSTRAINT channel_deliveries_check,
    ADD CONSTRAINT channel_deliveries_state_check
        CHECK (state IN ('waiting', 'held', 'sent', 'failed', 'superseded')),
    ADD CONSTRAINT channel_deliveries_done_check CHECK ((done_at IS NULL) = (state IN ('waiting', 'held')));
CREATE INDEX channel_deliveries_held ON channel_deliveries (id) WHERE state = 'held';
CREATE INDEX channel_deliveries_pending ON channel_deliveries (id) WHERE state IN ('waiting', 'held');
-- "Is something older of the same rule on its way?", also where it is held.
DROP INDEX channel_deliveries_rule;
CREATE INDEX channel_deliveries_rule ON channel_deliveries (channel_id, device_id, rule_id, id)
    WHERE state IN ('waiting', 'held');
-- "What did the channel hear last of this rule?"
CREATE INDEX channel_deliveries_told ON channel_deliveries (channel_id, device_id, rule_id, id) WHERE attempts > 0;
