-- The keys of the readings judged last, of the device: of those that could come again and not look older than `judged`.
ALTER TABLE active_alerts ADD COLUMN judged_keys bigint[];
