-- Attempts at a delivery from before it was asked for again (`sluice channels retry`): the channel may have heard of it
-- by any of them.
ALTER TABLE channel_deliveries ADD COLUMN attempts_before integer NOT NULL DEFAULT 0;
-- "What may the channel have heard last of this rule?"
DROP INDEX channel_deliveries_told;
CREATE INDEX channel_deliveries_told ON channel_deliveries (channel_id, device_id, rule_id, id)
    WHERE attempts > 0 OR attempts_before > 0;
