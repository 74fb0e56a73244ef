-- A user's alert rules, validated before they get here; `rules` is the array itself.
CREATE TABLE user_configs (
    user_id    text COLLATE "C" PRIMARY KEY CHECK (length(user_id) BETWEEN 1 AND 128),
    rules      jsonb            NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(rules) = 'array'),
    updated_at timestamptz      NOT NULL DEFAULT now()
);

-- The present state of every alert of a device and rule: what the states in Redis are rebuilt from.
-- `threshold` and `value` are JSON because a rule may compare strings and booleans too.
CREATE TABLE active_alerts (
    user_id         text COLLATE "C" NOT NULL,
    device_id       text COLLATE "C" NOT NULL,
    rule_id         text COLLATE "C" NOT NULL,
    alert_id        text COLLATE "C" NOT NULL,
    status          text             NOT NULL
                    CHECK (status IN ('TRIGGERED', 'RESOLVED', 'SNOOZED', 'DISABLED', 'ENABLED')),
    severity        text,
    message         text,
    key             text,
    operator        text,
    threshold       jsonb,
    value           jsonb,
    first_seen      timestamptz,
    last_seen       timestamptz,
    count           bigint           NOT NULL DEFAULT 0,
    snoozed_until   timestamptz,
    sequence_id     bigint,
    -- The Kafka record that changed the state last: older records change nothing when they come again.
    kafka_partition integer,
    kafka_offset    bigint,
    updated_at      timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, device_id, rule_id)
);

-- Every change of every alert. An alert takes a status at one time once, so a change that is delivered
-- again is a conflict instead of a second row.
CREATE TABLE alert_history (
    alert_id    text COLLATE "C" NOT NULL,
    status      text             NOT NULL
                CHECK (status IN ('TRIGGERED', 'RESOLVED', 'SNOOZED', 'DISABLED', 'ENABLED')),
    time        timestamptz      NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    device_id   text COLLATE "C" NOT NULL,
    rule_id     text COLLATE "C" NOT NULL,
    severity    text,
    message     text,
    key         text,
    operator    text,
    threshold   jsonb,
    value       jsonb,
    sequence_id bigint,
    first_seen  timestamptz,
    last_seen   timestamptz,
    count       bigint,
    recorded_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (alert_id, status, time)
);

-- "What happened to this user's devices lately"; changes are rare, so its cost does not show.
CREATE INDEX alert_history_user_time ON alert_history (user_id, time DESC);
