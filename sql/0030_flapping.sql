-- An alert that changes too often is FLAPPING until it is calm. A row is RESOLVED while the changes of an alert that is
-- over may still make the next one flap.
ALTER TABLE active_alerts
    ADD COLUMN changed_at timestamptz[], -- when the rule's alert changed lately, of a rule with `flapping`
    ADD COLUMN violated   boolean,       -- while FLAPPING, whether the rule is violated at present
    DROP CONSTRAINT active_alerts_status_check,
    ADD CONSTRAINT active_alerts_status_check
        CHECK (status IN ('PENDING', 'TRIGGERED', 'FLAPPING', 'SNOOZED', 'DISABLED', 'RESOLVED'));
-- "Which alert has been calm for long enough?" is asked every second.
CREATE INDEX active_alerts_flips ON active_alerts (user_id, device_id, rule_id)
    WHERE changed_at IS NOT NULL AND status IN ('FLAPPING', 'RESOLVED');

ALTER TABLE alert_history
    DROP CONSTRAINT alert_history_status_check,
    -- Rows from before hold it: they are not read again.
    ADD CONSTRAINT alert_history_status_check CHECK (status IN (
        'TRIGGERED', 'FLAPPING', 'ESCALATED', 'RESOLVED', 'SNOOZED', 'DISABLED', 'ENABLED', 'ACKNOWLEDGED'
    )) NOT VALID;

-- A channel that tells where an alert begins tells also of one that begins as FLAPPING.
ALTER TABLE channels
    DROP CONSTRAINT channels_statuses_check,
    ADD CONSTRAINT channels_statuses_check CHECK (cardinality(statuses) >= 1 AND statuses
        <@ '{TRIGGERED,FLAPPING,ESCALATED,RESOLVED,SNOOZED,DISABLED,ENABLED,ACKNOWLEDGED}'),
    ALTER COLUMN statuses SET DEFAULT '{TRIGGERED,FLAPPING,ESCALATED,RESOLVED}';
UPDATE channels SET statuses = array_append(statuses, 'FLAPPING') WHERE 'TRIGGERED' = ANY (statuses);
