-- The readings. The key makes a redelivered reading a conflict instead of a second row; a hypertable's key
-- must contain its time. COLLATE "C" compares ids as bytes: inserts cost less, whatever the database's locale.
CREATE TABLE raw_telemetry (
    time        timestamptz      NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    device_id   text COLLATE "C" NOT NULL,
    sequence_id bigint           NOT NULL,
    temperature double precision,
    battery     double precision,
    extra_data  jsonb            NOT NULL DEFAULT '{}',
    PRIMARY KEY (time, user_id, device_id, sequence_id)
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        -- A day's chunk keeps the indexes that inserts touch in memory at thousands of rows per second.
        PERFORM create_hypertable('raw_telemetry', by_range('time', INTERVAL '1 day'), create_default_indexes => false);
    END IF;
END
$$;
