-- The registry of devices: who has sent something, and how it was. Workers keep it, some seconds behind; it is
-- derived from the rows and the dead letters, and counted again when it is lost.
-- Each line changes every few seconds: room in the page and no index besides the key make that cheap.
CREATE TABLE devices (
    user_id        text COLLATE "C" NOT NULL,
    device_id      text COLLATE "C" NOT NULL, -- as in alerts: with the domain's namespace before it, if it has one
    domain         text             NOT NULL,
    first_seen     timestamptz      NOT NULL, -- arrival in Kafka, here and below
    last_seen      timestamptz      NOT NULL, -- of a reading, or of a message that was refused
    own_time       timestamptz,               -- the device's own time of the reading that came last
    clock_skew_ms  bigint,                    -- own time less arrival, of the reading that came last
    refused_at     timestamptz,               -- the last refusal
    refused_type   text,
    refused_reason text,
    PRIMARY KEY (user_id, device_id)
) WITH (fillfactor = 50);

CREATE TABLE device_days (
    user_id      text COLLATE "C" NOT NULL,
    device_id    text COLLATE "C" NOT NULL,
    day          date             NOT NULL, -- UTC
    messages     bigint           NOT NULL DEFAULT 0, -- readings that arrived
    dead_letters bigint           NOT NULL DEFAULT 0, -- refusals of messages that arrived
    PRIMARY KEY (user_id, device_id, day)
) WITH (fillfactor = 50);

-- Up to where each source has been counted, written together with the counts: so nothing counts twice.
CREATE TABLE device_positions (
    source     text COLLATE "C" PRIMARY KEY,
    position   jsonb       NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
