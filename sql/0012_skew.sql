-- How far the time `judged` was from its arrival in Kafka, in µs: by a jump of it a clock that was set is noticed.
ALTER TABLE active_alerts ADD COLUMN skew bigint;
