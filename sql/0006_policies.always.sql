-- Compression and retention by the settings, where the server's licence has them (TimescaleDB's own, not the
-- Apache edition). Runs at every `sluice migrate`, so a changed setting or a changed licence takes effect.
DO $$
DECLARE
    compress_after interval := make_interval(days => current_setting('sluice.compress_after_days')::int);
    drop_after     interval := make_interval(days => current_setting('sluice.retention_days')::int);
    licensed       boolean;
BEGIN
    -- A plain table stays one when the extension comes later, hence the question for the hypertable. (The
    -- extension's views may be missing, so each question waits for the answer to the one before.)
    licensed := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
        AND current_setting('timescaledb.license', true) = 'timescale';
    IF licensed THEN
        licensed := EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = 'raw_telemetry');
    END IF;
    IF NOT licensed THEN
        IF drop_after > INTERVAL '0' THEN
            RAISE WARNING 'this server has no retention policies: nothing older than % will be dropped', drop_after;
        END IF;
        RETURN;
    END IF;

    IF NOT EXISTS (SELECT FROM timescaledb_information.hypertables
                   WHERE hypertable_name = 'raw_telemetry' AND compression_enabled) THEN
        -- One segment per device, in the order of its readings: what queries ask for, and what lets the check
        -- for a duplicate open only the segments of its device.
        ALTER TABLE raw_telemetry SET (
            timescaledb.compress,
            timescaledb.compress_segmentby = 'user_id, device_id',
            timescaledb.compress_orderby = 'time DESC, sequence_id'
        );
    END IF;

    -- Left alone when nothing changed: a policy that is made anew forgets when it ran last.
    IF NOT EXISTS (SELECT FROM timescaledb_information.jobs
                   WHERE hypertable_name = 'raw_telemetry' AND proc_name = 'policy_compression'
                   AND (config ->> 'compress_after')::interval = compress_after) THEN
        PERFORM remove_compression_policy('raw_telemetry', if_exists => true);
        IF compress_after > INTERVAL '0' THEN
            PERFORM add_compression_policy('raw_telemetry', compress_after);
        END IF;
    END IF;
    IF NOT EXISTS (SELECT FROM timescaledb_information.jobs
                   WHERE hypertable_name = 'raw_telemetry' AND proc_name = 'policy_retention'
                   AND (config ->> 'drop_after')::interval = drop_after) THEN
        PERFORM remove_retention_policy('raw_telemetry', if_exists => true);
        IF drop_after > INTERVAL '0' THEN
            PERFORM add_retention_policy('raw_telemetry', drop_after);
        END IF;
    END IF;

    -- A late duplicate in a compressed chunk makes the server open segments to compare; by default it refuses
    -- more than 100,000 rows of them in one statement, and a batch would wait for ever.
    BEGIN
        EXECUTE format('ALTER DATABASE %I SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0',
                       current_database());
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE WARNING 'let the owner of the database set timescaledb.max_tuples_decompressed_per_dml_transaction = 0';
    END;
END
$$;
