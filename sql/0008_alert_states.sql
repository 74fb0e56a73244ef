-- A row of `active_alerts` is one rule of one device that is not in order, told or not: a violation that has not
-- lasted long enough has no alert yet, nor has a snooze whose alert is over.
ALTER TABLE active_alerts
    ALTER COLUMN alert_id DROP NOT NULL,
    DROP CONSTRAINT active_alerts_status_check,
    ADD CONSTRAINT active_alerts_status_check
        CHECK (status IN ('PENDING', 'TRIGGERED', 'SNOOZED', 'DISABLED')),
    -- The last command that was obeyed: it changes nothing when it comes again.
    ADD COLUMN command_at timestamptz,
    ADD COLUMN command_id text COLLATE "C",
    -- Of the device, not of the rule: the time up to which it was judged, and how many changes it has had.
    ADD COLUMN judged     timestamptz,
    ADD COLUMN number     bigint NOT NULL DEFAULT 0;

-- "Whose snooze is over?" is asked every second.
CREATE INDEX active_alerts_snoozed ON active_alerts (snoozed_until) WHERE snoozed_until IS NOT NULL;

ALTER TABLE alert_history
    -- Why, where rule and reading do not say it, and which user asked.
    ADD COLUMN reason          text,
    ADD COLUMN "by"            text,
    -- Counts the changes of a device. It orders those of one time, but is no key: a state that was rebuilt after
    -- a long silence counts from the beginning again.
    ADD COLUMN number          bigint NOT NULL DEFAULT 0,
    ADD COLUMN kafka_partition integer,
    ADD COLUMN kafka_offset    bigint;

-- An alert begins once and ends once. The key of the table says so of one time; this says it also where a state
-- that Redis had lost makes a later reading end the same alert.
CREATE UNIQUE INDEX alert_history_begin_and_end ON alert_history (alert_id, status)
    WHERE status IN ('TRIGGERED', 'RESOLVED');

-- "What changed lately?" is asked when lost states are rebuilt.
CREATE INDEX alert_history_recorded ON alert_history (recorded_at);
