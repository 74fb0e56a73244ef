-- Rollups of the numeric columns of every domain, by hour and by day (UTC). Workers make them from the rows of
-- hours that rows have come for since; `ROLLUPS` asks for it. A value beyond ±1e290 does not count.
CREATE TABLE rollups_hourly (
    user_id   text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL, -- as in alerts: with the domain's namespace before it, if it has one
    key       text COLLATE "C" NOT NULL, -- the column
    hour      timestamptz      NOT NULL,
    domain    text             NOT NULL,
    count     bigint           NOT NULL,
    min       double precision NOT NULL,
    max       double precision NOT NULL,
    sum       double precision NOT NULL,
    last      double precision NOT NULL, -- by the time of its row; of several at one time the greatest
    PRIMARY KEY (user_id, device_id, key, hour)
);
CREATE TABLE rollups_daily (
    user_id   text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    day       date             NOT NULL,
    domain    text             NOT NULL,
    count     bigint           NOT NULL,
    min       double precision NOT NULL,
    max       double precision NOT NULL,
    sum       double precision NOT NULL,
    last      double precision NOT NULL,
    PRIMARY KEY (user_id, device_id, key, day)
);
-- By which retention finds what is old.
CREATE INDEX rollups_daily_day ON rollups_daily USING brin (day);
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        PERFORM create_hypertable('rollups_hourly', by_range('hour', INTERVAL '30 days'), create_default_indexes => false);
    ELSE
        CREATE INDEX rollups_hourly_hour ON rollups_hourly USING brin (hour);
    END IF;
END
$$;

-- The hours that rows have come for, one line for each batch and hour, written together with the rows: so an hour
-- without a mark has its rollups. Hours count from 1970 (UTC), which also holds for the year 9999.
CREATE TABLE rollup_marks (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain    text        NOT NULL,
    hour      integer     NOT NULL,
    users     text[],                           -- null: any device may have rows
    devices   text[],                           -- the devices of these users, by their ids in the rows
    marked_at timestamptz NOT NULL DEFAULT now()
);
-- The domains that are rolled up: rows get marks from here on, and those that were there before are made
-- backwards, the newest hour first.
CREATE TABLE rollup_progress (
    domain    text    PRIMARY KEY,
    started   xid8    NOT NULL DEFAULT pg_current_xact_id(), -- an older transaction may write rows without a mark
    made_from integer,                                       -- hours from this one on are made; null: none yet
    complete  boolean NOT NULL DEFAULT false
);

-- How long the rows of each table are kept, and whose they are; `sluice migrate` writes it by the settings.
CREATE TABLE retention (
    relation      text    PRIMARY KEY,
    time_column   text    NOT NULL,
    domain        text,                                 -- of readings; null for rollups
    owner         text,                                 -- the owner as an expression of SQL
    source_column text,
    prefix        text    NOT NULL DEFAULT '',          -- before the source's id, it makes the device_id
    days          integer NOT NULL CHECK (days >= 0),   -- 0 keeps them forever
    gone_before   integer NOT NULL DEFAULT -2147483648  -- rows of earlier hours may be gone
);
