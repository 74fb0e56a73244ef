-- An alert that a user has acknowledged: when, who and why. A change of it in the history has the note.
ALTER TABLE active_alerts
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN acknowledged_by text,
    ADD COLUMN note            text;

ALTER TABLE alert_history
    ADD COLUMN note text,
    DROP CONSTRAINT alert_history_status_check,
    -- Rows from before hold it: they are not read again.
    ADD CONSTRAINT alert_history_status_check
        CHECK (status IN ('TRIGGERED', 'RESOLVED', 'SNOOZED', 'DISABLED', 'ENABLED', 'ACKNOWLEDGED')) NOT VALID;
