-- Compression where the server's licence has it (TimescaleDB's own, not the Apache edition), and retention on every
-- server, both by the settings. Runs at every `sluice migrate`, so a changed setting or a changed licence takes effect.
-- `sluice.hypertables` are the tables of the domains, each with how it is best compressed and how long it is kept.
INSERT INTO retention (relation, time_column, domain, owner, source_column, prefix, days)
SELECT relation, time_column, domain, coalesce(quote_ident(owner_column), quote_literal(owner)), source_column, prefix,
    days
FROM jsonb_to_recordset(current_setting('sluice.hypertables')::jsonb)
    AS declared (relation text, time_column text, domain text, owner_column text, owner text, source_column text,
                 prefix text, days integer)
UNION ALL VALUES
    ('rollups_hourly', 'hour', NULL, NULL, NULL, '', current_setting('sluice.rollup_hourly_days')::int),
    ('rollups_daily', 'day', NULL, NULL, NULL, '', current_setting('sluice.rollup_daily_days')::int)
ON CONFLICT (relation) DO UPDATE SET
    time_column = excluded.time_column, domain = excluded.domain, owner = excluded.owner,
    source_column = excluded.source_column, prefix = excluded.prefix, days = excluded.days;

-- Removes what is older than the table's retention: whole chunks of a hypertable, at most `most` rows of a plain
-- table. Returns how many of these went; null means that rows still have to be rolled up first, or are being rolled
-- up. Hourly and daily rollups wait for those of every domain, which are made from old rows. It runs with the rights
-- of the owner, so that workers may remove what is too old, and nothing else.
CREATE OR REPLACE FUNCTION sluice_expire(of_relation text, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
    kept    retention;
    limit_  integer;
    cutoff  timestamptz;
    removed bigint;
BEGIN
    SELECT * INTO kept FROM retention WHERE relation = of_relation AND days > 0 FOR UPDATE;
    IF NOT FOUND OR to_regclass(quote_ident(of_relation)) IS NULL THEN
        RETURN 0;
    END IF;
    limit_ := (floor(extract(epoch FROM now()) / 86400)::integer - kept.days) * 24;
    cutoff := to_timestamp(limit_ * 3600.0);
    -- The lock of who makes rollups (tasks/rollups/make.py): nobody makes them from what is half gone.
    IF NOT pg_try_advisory_xact_lock(125822885983600) OR EXISTS (
        SELECT FROM rollup_progress AS made WHERE coalesce(made.domain = kept.domain, true)
        AND (NOT complete OR EXISTS (SELECT FROM rollup_marks WHERE domain = made.domain
                                     AND hour >= kept.gone_before AND hour < limit_))) THEN
        RETURN NULL;
    END IF;

    -- A plain table stays one when the extension comes later.
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        IF EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = of_relation) THEN
            SELECT count(*) INTO removed FROM drop_chunks(of_relation::regclass, older_than => cutoff);
        END IF;
    END IF;
    IF removed IS NULL THEN
        EXECUTE format('DELETE FROM %1$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$I WHERE %2$I < $1 LIMIT $2))',
                       of_relation, kept.time_column) USING cutoff, most;
        GET DIAGNOSTICS removed = ROW_COUNT;
    END IF;
    -- What is all there can still be rolled up, however old it is.
    IF removed > 0 THEN
        UPDATE retention SET gone_before = greatest(gone_before, limit_) WHERE relation = of_relation;
    END IF;
    RETURN removed;
END
$$;
REVOKE ALL ON FUNCTION sluice_expire FROM PUBLIC;

DO $$
DECLARE
    compress_after interval := make_interval(days => current_setting('sluice.compress_after_days')::int);
    domain         record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
       OR current_setting('timescaledb.license', true) IS DISTINCT FROM 'timescale' THEN
        RETURN;
    END IF;

    FOR domain IN
        SELECT * FROM jsonb_to_recordset(current_setting('sluice.hypertables')::jsonb)
            AS declared (relation text, segment_by text, order_by text)
    LOOP
        -- A plain table stays one when the extension comes later.
        IF NOT EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = domain.relation) THEN
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
        -- Made by earlier versions: it knows nothing of rollups, and would remove rows before they have theirs.
        PERFORM remove_retention_policy(domain.relation::regclass, if_exists => true);
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
