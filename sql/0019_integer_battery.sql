-- `battery` becomes an integer, and `extra_data` may be null. An integer column cannot hold a fraction, or a number
-- beyond 32 bits: such values move to `extra_data.battery`, and what that held to `extra_data.battery_before`.
SET LOCAL client_min_messages = notice;

DO $$
DECLARE
    -- Measured on two busy cores, with a fraction in every tenth row.
    rows_per_second CONSTANT integer := 50000;
    licensed  boolean := false;
    dependent text;
    total     bigint;
    moving    bigint;
    size      bigint;
    moved     bigint;
BEGIN
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'raw_telemetry'::regclass AND attname = 'battery'
               AND atttypid = 'integer'::regtype) THEN
        RETURN;
    END IF;

    SELECT string_agg(DISTINCT view.oid::regclass::text, ', ') INTO dependent
    FROM pg_depend AS link
    JOIN pg_rewrite AS rule ON rule.oid = link.objid
    JOIN pg_class AS view ON view.oid = rule.ev_class
    JOIN pg_attribute AS col ON col.attrelid = link.refobjid AND col.attnum = link.refobjsubid
    WHERE link.classid = 'pg_rewrite'::regclass AND link.refclassid = 'pg_class'::regclass
        AND link.refobjid = 'raw_telemetry'::regclass AND col.attname = 'battery';
    IF dependent IS NOT NULL THEN
        -- A continuous aggregate reads the table by views of its own.
        IF to_regclass('timescaledb_information.continuous_aggregates') IS NOT NULL THEN
            SELECT concat_ws(', ', dependent, string_agg(format('continuous aggregate %I.%I', view_schema, view_name), ', '))
            INTO dependent
            FROM timescaledb_information.continuous_aggregates WHERE hypertable_name = 'raw_telemetry';
        END IF;
        RAISE EXCEPTION 'views read raw_telemetry.battery, whose type changes: %', dependent
            USING HINT = 'Keep their definitions (pg_get_viewdef, or view_definition in'
                ' timescaledb_information.continuous_aggregates), drop them, run `sluice migrate` again, and create them again.';
    END IF;

    IF to_regclass('timescaledb_information.chunks') IS NOT NULL THEN
        SELECT string_agg(format('%I.%I', chunk_schema, chunk_name), ', ') INTO dependent
        FROM (SELECT * FROM timescaledb_information.chunks WHERE hypertable_name = 'raw_telemetry' AND is_compressed
              ORDER BY range_start LIMIT 3) AS compressed;
        IF dependent IS NOT NULL THEN
            RAISE EXCEPTION 'raw_telemetry has compressed chunks, in which the type of battery cannot change: %, …', dependent
                USING HINT = 'Decompress them first, with room on the disk for all rows:'
                    ' SELECT remove_compression_policy(''raw_telemetry'', if_exists => true);'
                    ' SELECT decompress_chunk(format(''%I.%I'', chunk_schema, chunk_name)::regclass, true)'
                    ' FROM timescaledb_information.chunks WHERE hypertable_name = ''raw_telemetry'' AND is_compressed;'
                    ' then run `sluice migrate` again: it sets up compression again, which then compresses the old chunks.';
        END IF;
        licensed := EXISTS (SELECT FROM timescaledb_information.hypertables
                            WHERE hypertable_name = 'raw_telemetry' AND compression_enabled);
    END IF;

    SELECT count(*), count(*) FILTER (WHERE battery <> trunc(battery) OR battery NOT BETWEEN -2147483648 AND 2147483647)
    INTO total, moving FROM raw_telemetry;
    SELECT sum(pg_total_relation_size(oid)) INTO size
    FROM (SELECT 'raw_telemetry'::regclass AS oid
          UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'raw_telemetry'::regclass) AS part;
    IF total > 0 THEN
        RAISE NOTICE 'battery becomes an integer: % of % rows have a battery with a fraction or beyond 32 bits, which moves to'
            ' extra_data.battery', moving, total;
        RAISE NOTICE 'the table (%) is rewritten in about % s: it needs as much room on the disk again, and workers wait meanwhile',
            pg_size_pretty(size), greatest(1, total / rows_per_second);
    END IF;

    -- The type of a column cannot change while there may be compressed chunks. What runs at every `sluice migrate`
    -- sets compression up again.
    IF licensed THEN
        PERFORM remove_compression_policy('raw_telemetry', if_exists => true);
        ALTER TABLE raw_telemetry SET (timescaledb.compress = false);
    END IF;

    -- From here on nothing is written, so no fraction comes between the two steps.
    LOCK TABLE raw_telemetry IN ACCESS EXCLUSIVE MODE;
    UPDATE raw_telemetry SET battery = NULL, extra_data = CASE
        WHEN jsonb_typeof(extra_data) = 'object' AND NOT extra_data ? 'battery'
            THEN extra_data || jsonb_build_object('battery', battery)
        WHEN jsonb_typeof(extra_data) = 'object'
            THEN extra_data || jsonb_build_object('battery', battery, 'battery_before', extra_data -> 'battery')
        WHEN extra_data IS NULL THEN jsonb_build_object('battery', battery)
        ELSE jsonb_build_object('battery', battery, 'extra_data_before', extra_data)
    END
    WHERE battery <> trunc(battery) OR battery NOT BETWEEN -2147483648 AND 2147483647;
    GET DIAGNOSTICS moved = ROW_COUNT;
    ALTER TABLE raw_telemetry ALTER COLUMN battery TYPE integer;
    IF moved > 0 THEN
        RAISE NOTICE '% values of battery moved to extra_data.battery', moved;
    END IF;
END
$$;

ALTER TABLE raw_telemetry ALTER COLUMN extra_data DROP NOT NULL;

-- A worker of an earlier version writes 85.0 where the column wants 85, and would take the refusal for a fault of the
-- message. A missing column, on the other hand, is a reason to wait: for the worker of this version that replaces it.
CREATE FUNCTION sluice_hold_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this worker is of an earlier version, which writes battery as a double: replace it'
        USING ERRCODE = 'undefined_column';
END
$$;
CREATE TRIGGER sluice_hold_back BEFORE INSERT ON raw_telemetry FOR EACH STATEMENT
    WHEN (current_setting('application_name') = 'sluice-worker'
          AND coalesce(nullif(current_setting('sluice.row_form', true), ''), '1')::integer < 2)
    EXECUTE FUNCTION sluice_hold_back();
