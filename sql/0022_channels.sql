-- Whether every $ of a template is part of $$, or of $name or ${name} for a field of an alert.
CREATE FUNCTION sluice_channel_template(template text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    WITH fields (names) AS (VALUES (
        'alert_id|status|severity|user_id|device_id|rule_id|message|key|operator|threshold|value|values|time|'
        'first_seen|last_seen|count|reason|by|note'))
    SELECT regexp_replace(template, '\$\$|\$(' || names || ')(?![a-z_])|\$\{(' || names || ')\}', '', 'g') !~ '\$'
    FROM fields
$$;

-- Where a user's alerts are told besides MQTT: a signed webhook, a mail, or a service that Apprise knows. `target` and
-- `secret` let whoever knows them speak in the user's name: only the owner and the workers read them.
CREATE TABLE channels (
    id         bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    text COLLATE "C" NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    name       text COLLATE "C" NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    kind       text             NOT NULL CHECK (kind IN ('webhook', 'mail', 'apprise')),
    target     text             NOT NULL CHECK (length(target) BETWEEN 3 AND 2000 AND target !~ '[[:cntrl:]]'),
    -- Signs webhooks: 64 hexadecimal digits of chance where none is given.
    secret     text             NOT NULL CHECK (length(secret) BETWEEN 16 AND 256 AND secret !~ '[[:cntrl:]]')
               DEFAULT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
    -- Which alerts: those of these severities, NULL for all, when they change to one of these statuses.
    severities text[]           CHECK (cardinality(severities) BETWEEN 1 AND 16),
    statuses   text[]           NOT NULL DEFAULT '{TRIGGERED,ESCALATED,RESOLVED}' CHECK (cardinality(statuses) >= 1 AND statuses
               <@ '{TRIGGERED,ESCALATED,RESOLVED,SNOOZED,DISABLED,ENABLED,ACKNOWLEDGED}'),
    -- Of the text; NULL is the default one.
    template   text             CHECK (length(template) BETWEEN 1 AND 4096 AND sluice_channel_template(template)),
    enabled    boolean          NOT NULL DEFAULT true,
    created_at timestamptz      NOT NULL DEFAULT now(),
    UNIQUE (user_id, name),
    CONSTRAINT channels_target_of_kind CHECK (CASE kind
        WHEN 'webhook' THEN target ~ '^https?://[^[:space:]]+$'
        WHEN 'mail' THEN target ~ '^[^[:space:]@,;<>"]+@[A-Za-z0-9.-]+$'
        ELSE target ~ '^[a-z][a-z0-9+]*://[^[:space:]]+$' END)
);

-- Whether a channel is at work, and when it may be again. Apart from what people set, because it changes often.
CREATE TABLE channel_states (
    channel_id  bigint      PRIMARY KEY REFERENCES channels ON DELETE CASCADE,
    failures    integer     NOT NULL DEFAULT 0,           -- since the last success
    rests_until timestamptz NOT NULL DEFAULT '-infinity', -- after failures, or because the server asked for it
    lease_until timestamptz NOT NULL DEFAULT '-infinity', -- one delivery at a time; in the past, its last end
    holder      uuid                                      -- who has the lease
) WITH (fillfactor = 50);

-- Up to when each user has used up what the rate bound allows.
CREATE TABLE channel_users (
    user_id text COLLATE "C" PRIMARY KEY,
    free_at timestamptz      NOT NULL
) WITH (fillfactor = 50);

-- One row for each change of an alert and channel that tells it, written together with the row of alert_history.
CREATE TABLE channel_deliveries (
    id         bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id bigint           NOT NULL REFERENCES channels ON DELETE CASCADE,
    alert_id   text COLLATE "C" NOT NULL,
    status     text             NOT NULL,
    rise       text             NOT NULL DEFAULT '', -- of ESCALATED, which an alert has once for each: the severity
    time       timestamptz      NOT NULL,
    device_id  text COLLATE "C" NOT NULL,
    rule_id    text COLLATE "C" NOT NULL,
    state      text             NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'failed')),
    attempts   integer          NOT NULL DEFAULT 0,
    why        text,                                       -- of the last failure
    next_at    timestamptz      NOT NULL DEFAULT now(),    -- of the next attempt
    created_at timestamptz      NOT NULL DEFAULT now(),
    done_at    timestamptz      CHECK ((done_at IS NULL) = (state = 'waiting')),
    UNIQUE (channel_id, alert_id, status, rise)
);
-- "What is next?" and "is something older of the same rule on its way?" are asked before each attempt.
CREATE INDEX channel_deliveries_waiting ON channel_deliveries (channel_id, id) WHERE state = 'waiting';
CREATE INDEX channel_deliveries_rule ON channel_deliveries (channel_id, device_id, rule_id, id) WHERE state = 'waiting';
CREATE INDEX channel_deliveries_done ON channel_deliveries (done_at) WHERE done_at IS NOT NULL;

CREATE FUNCTION sluice_channel_added() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Two at once may both be the last one: a bound, not a count.
    IF (SELECT count(*) FROM channels WHERE user_id = NEW.user_id) > 20 THEN
        RAISE check_violation USING MESSAGE = format('the user %s has 20 channels, the maximum', NEW.user_id);
    END IF;
    INSERT INTO channel_states (channel_id) VALUES (NEW.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER channel_added AFTER INSERT ON channels FOR EACH ROW EXECUTE FUNCTION sluice_channel_added();

-- The operator's trail, without what must not be read.
CREATE FUNCTION sluice_audit_channel() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    was jsonb := CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN to_jsonb(OLD) END;
    after_ jsonb := CASE WHEN TG_OP IN ('UPDATE', 'INSERT') THEN to_jsonb(NEW) END;
BEGIN
    IF (was ->> 'target', was ->> 'secret') IS DISTINCT FROM (after_ ->> 'target', after_ ->> 'secret') THEN
        after_ := after_ || '{"target": "new"}';
    ELSE
        after_ := after_ - 'target';
    END IF;
    INSERT INTO operator_audit (action, subject, key, before, after)
    VALUES (TG_OP, 'channels', coalesce(after_ ->> 'user_id', was ->> 'user_id'), was - '{target,secret}'::text[],
            after_ - 'secret');
    RETURN NULL;
END
$$;
CREATE TRIGGER operator_audit AFTER INSERT OR UPDATE OR DELETE ON channels
    FOR EACH ROW EXECUTE FUNCTION sluice_audit_channel();
