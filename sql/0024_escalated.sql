-- An alert whose severity has risen. Each rise is a row of the history, also where two readings are of one time: the
-- severity is part of the key. To build the key again takes about a second for a million rows, in which notices wait.
UPDATE alert_history SET severity = '' WHERE severity IS NULL;
ALTER TABLE alert_history
    ALTER COLUMN severity SET DEFAULT '',
    ALTER COLUMN severity SET NOT NULL,
    DROP CONSTRAINT alert_history_pkey,
    ADD PRIMARY KEY (alert_id, status, time, severity),
    DROP CONSTRAINT alert_history_status_check,
    -- Rows from before hold it: they are not read again.
    ADD CONSTRAINT alert_history_status_check CHECK (
        status IN ('TRIGGERED', 'ESCALATED', 'RESOLVED', 'SNOOZED', 'DISABLED', 'ENABLED', 'ACKNOWLEDGED')
    ) NOT VALID;
