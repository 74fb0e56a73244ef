-- Where a change of an alert was in the outbox (milliseconds * 2^20 + number within the millisecond), and how far
-- each way of telling has come: what Redis loses of the outbox is told again from here.
ALTER TABLE alert_history ADD COLUMN outbox_position bigint;

CREATE INDEX alert_history_outbox ON alert_history (outbox_position) WHERE outbox_position IS NOT NULL;

CREATE TABLE alert_delivery (
    consumer        text COLLATE "C" PRIMARY KEY,
    outbox_position bigint      NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
