-- Who may log in to the MQTT broker, and with which rights. EMQX reads both tables itself; for Mosquitto they
-- are written to its files. `sluice provision` writes them.
CREATE TABLE mqtt_users (
    username      text COLLATE "C" PRIMARY KEY
                  -- a colon ends the name in Mosquitto's password file
                  CHECK (username <> '' AND username !~ '[[:cntrl:]:+#]'),
    -- PBKDF2-HMAC-SHA512, 64 bytes, in hexadecimal; the salt's bytes are its characters
    password_hash text             NOT NULL CHECK (password_hash ~ '^[0-9a-f]{128}$'),
    salt          text             NOT NULL,
    iterations    integer          NOT NULL CHECK (iterations > 0),
    is_superuser  boolean          NOT NULL DEFAULT false,
    kind          text             NOT NULL CHECK (kind IN ('device', 'user', 'service')),
    user_id       text COLLATE "C" CHECK ((user_id IS NULL) = (kind = 'service')),
    device_id     text COLLATE "C" CHECK ((device_id IS NULL) = (kind <> 'device')),
    enabled       boolean          NOT NULL DEFAULT true,
    created_at    timestamptz      NOT NULL DEFAULT now(),
    rotated_at    timestamptz      NOT NULL DEFAULT now()
);

-- What no row allows is denied.
CREATE TABLE mqtt_acl (
    username   text COLLATE "C" NOT NULL REFERENCES mqtt_users ON UPDATE CASCADE ON DELETE CASCADE,
    permission text             NOT NULL CHECK (permission IN ('allow', 'deny')),
    action     text             NOT NULL CHECK (action IN ('publish', 'subscribe', 'all')),
    topic      text COLLATE "C" NOT NULL CHECK (topic <> '' AND topic !~ '[[:cntrl:]]'),
    PRIMARY KEY (username, topic, action, permission)
);
