-- The memory of Redis that the states of alerts are in: what another one still has in its outbox is not written any more.
ALTER TABLE alert_delivery ADD COLUMN memory text COLLATE "C";
