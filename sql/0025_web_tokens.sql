-- Tenants' tokens of the HTTP API. Of a token there is only the hash: it is shown once, when it is made.
CREATE TABLE web_tokens (
    token_id   text COLLATE "C" PRIMARY KEY, -- by which it is listed and revoked
    user_id    text COLLATE "C" NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    token_hash bytea            NOT NULL UNIQUE, -- SHA-256 of 256 random bits, which needs no slow hash
    created_at timestamptz      NOT NULL DEFAULT now(),
    expires_at timestamptz      -- null: never
);
CREATE INDEX web_tokens_user ON web_tokens (user_id);

-- The history of all users' alerts, from its end; changes are rare, so its cost does not show.
CREATE INDEX alert_history_time ON alert_history (time, alert_id, status, severity);
