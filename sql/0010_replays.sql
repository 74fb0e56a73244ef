-- What was replayed, and how far. In the database, because Redis may be flushed and Kafka's records never change.
CREATE TABLE replays (
    run_id      text        PRIMARY KEY, -- the id of its Celery task
    kind        text        NOT NULL CHECK (kind IN ('dead_letters', 'ranges')),
    arguments   jsonb       NOT NULL,
    positions   jsonb       NOT NULL DEFAULT '{}',
    counts      jsonb       NOT NULL DEFAULT '{}',
    started_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    error       text,                    -- why it was given up
    attempts    int         NOT NULL DEFAULT 0, -- since it last got on
    owner       text,                    -- who works on it, as long as `owned_until` has not passed
    owned_until timestamptz
);
CREATE INDEX replays_open ON replays (owned_until) WHERE ended_at IS NULL;

-- One line for each dead letter that is no longer open. Lines of letters that Kafka has dropped may be deleted.
CREATE TABLE replayed_letters (
    letter_key   text COLLATE "C" NOT NULL,
    -- The timestamp of the letter's record: offsets, and so keys, start again when a topic is made anew.
    record_ms    bigint           NOT NULL,
    run_id       text             NOT NULL,
    replayed_at  timestamptz      NOT NULL DEFAULT now(),
    -- Where it went in the telemetry topic: null until Kafka has confirmed it, and the letter's own place if it
    -- became a row from there.
    to_partition int,
    to_offset    bigint,
    PRIMARY KEY (letter_key, record_ms)
);
CREATE INDEX replayed_letters_run ON replayed_letters (run_id);
