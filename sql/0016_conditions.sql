-- Rules with conditions: what an alert compared, and of which condition it is. `digest` changes with the condition; its
-- part before the slash only with the keys and operators.
ALTER TABLE active_alerts
    ADD COLUMN digest   text COLLATE "C",
    ADD COLUMN "values" jsonb;
ALTER TABLE alert_history ADD COLUMN "values" jsonb;

-- "Which violation has lasted long enough?" is asked every second.
CREATE INDEX active_alerts_pending ON active_alerts (first_seen) WHERE status = 'PENDING';
