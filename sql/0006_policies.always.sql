-- Compression and retention by the settings, where the server's licence has them (TimescaleDB's own, not the
-- Apache edition). Runs at every `sluice migrate`, so a changed setting or a changed licence takes effect.
-- `sluice.hypertables` are the tables of the domains, each with how it is best compressed.
DO $$
DECLARE
    compress_after interval := make_interval(days => current_setting('sluice.compress_after_days')::int);
    drop_after     interval := make_interval(days => current_setting('sluice.retention_days')::int);
    licensed       boolean;
    domain         record;
BEGIN
    licensed := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
        AND current_setting('timescaledb.license', true) = 'timescale';
    IF NOT licensed THEN
        IF drop_after > INTERVAL '0' THEN
            RAISE WARNING 'this server has no retention policies: nothing older than % will be dropped', drop_after;
        END IF;
        RETURN;
    END IF;

    FOR domain IN
        SELECT * FROM jsonb_to_recordset(current_setting('sluice.hypertables')::jsonb)
            AS declared (relation text, segment_by text, order_by text)
    LOOP
        -- A plain table stays one when the extension comes later.
        IF NOT EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = domain.relation) THEN
            IF drop_after > INTERVAL '0' THEN
                RAISE WARNING '% is not a hypertable: none of its rows older than % will be dropped', domain.relation, drop_after;
            END IF;
            CONTINUE;
        END IF;

        IF NOT EXISTS (SELECT FROM timescaledb_information.hypertables
                       WHERE hypertable_name = domain.relation AND compression_enabled) THEN
            EXECUTE format(
                'ALTER TABLE %I SET (timescaledb.compress, timescaledb.compress_segmentby = %L, timescaledb.compress_orderby = %L)',
                domain.relation, domain.segment_by, domain.order_by
            );
        END IF;

        -- Left alone when nothing changed: a policy that is created again forgets when it ran last.
        IF NOT EXISTS (SELECT FROM timescaledb_information.jobs
                       WHERE hypertable_name = domain.relation AND proc_name = 'policy_compression'
                       AND (config ->> 'compress_after')::interval = compress_after) THEN
            PERFORM remove_compression_policy(domain.relation::regclass, if_exists => true);
            IF compress_after > INTERVAL '0' THEN
                PERFORM add_compression_policy(domain.relation::regclass, compress_after);
            END IF;
        END IF;
        IF NOT EXISTS (SELECT FROM timescaledb_information.jobs
                       WHERE hypertable_name = domain.relation AND proc_name = 'policy_retention'
                       AND (config ->> 'drop_after')::interval = drop_after) THEN
            PERFORM remove_retention_policy(domain.relation::regclass, if_exists => true);
            IF drop_after > INTERVAL '0' THEN
                PERFORM add_retention_policy(domain.relation::regclass, drop_after);
            END IF;
        END IF;
    END LOOP;

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
