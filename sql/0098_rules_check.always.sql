-- Made from the model of a rule by `python -m ingest.admin.rules_check`; not to be edited.
-- Refuses what is wrong in shape: types, lengths, ranges, operators, fields that are missing or unknown.
-- The rest, for example two rules of one name, the control process reports. Existing rows stay as they are.
CREATE OR REPLACE FUNCTION sluice_rules_hold(rules jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN jsonb_typeof(rules) <> 'array' THEN false ELSE
    jsonb_array_length(rules) <= 100 AND NOT EXISTS (
        -- a null means that the field is not given
        SELECT FROM jsonb_array_elements(rules) AS one (rule), jsonb_strip_nulls(rule) AS given
        WHERE CASE WHEN jsonb_typeof(rule) <> 'object' THEN true ELSE (
            rule - ARRAY['id', 'key', 'operator', 'threshold', 'message', 'severity', 'for_seconds', 'clear_threshold', 'domain'] = '{}'
            AND given ? 'operator'
            AND given ? 'message'
            AND (NOT given ? 'id' OR jsonb_typeof(rule -> 'id') = 'string' AND length(rule ->> 'id') >= 1 AND length(rule ->> 'id') <= 128)
            AND (NOT given ? 'key' OR jsonb_typeof(rule -> 'key') = 'string' AND length(rule ->> 'key') >= 1 AND length(rule ->> 'key') <= 256)
            AND (NOT given ? 'operator' OR jsonb_typeof(rule -> 'operator') = 'string' AND rule ->> 'operator' IN ('>', '<', '>=', '<=', '==', '!=', 'absent'))
            AND (NOT given ? 'threshold' OR jsonb_typeof(rule -> 'threshold') = 'number' AND CASE jsonb_typeof(rule -> 'threshold') WHEN 'number' THEN (rule ->> 'threshold')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(rule -> 'threshold') WHEN 'number' THEN (rule ->> 'threshold')::numeric END < 9223372036854775808)
            AND (NOT given ? 'message' OR jsonb_typeof(rule -> 'message') = 'string' AND length(rule ->> 'message') >= 1 AND length(rule ->> 'message') <= 500)
            AND (NOT given ? 'severity' OR jsonb_typeof(rule -> 'severity') = 'string' AND length(rule ->> 'severity') >= 1 AND length(rule ->> 'severity') <= 32)
            AND (NOT given ? 'for_seconds' OR jsonb_typeof(rule -> 'for_seconds') = 'number' AND CASE jsonb_typeof(rule -> 'for_seconds') WHEN 'number' THEN (rule ->> 'for_seconds')::numeric END >= 0 AND CASE jsonb_typeof(rule -> 'for_seconds') WHEN 'number' THEN (rule ->> 'for_seconds')::numeric END <= 2592000)
            AND (NOT given ? 'clear_threshold' OR jsonb_typeof(rule -> 'clear_threshold') = 'number' AND CASE jsonb_typeof(rule -> 'clear_threshold') WHEN 'number' THEN (rule ->> 'clear_threshold')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(rule -> 'clear_threshold') WHEN 'number' THEN (rule ->> 'clear_threshold')::numeric END < 9223372036854775808)
            AND (NOT given ? 'domain' OR jsonb_typeof(rule -> 'domain') = 'string')
            AND CASE WHEN rule ->> 'operator' = 'absent' THEN NOT given ? 'threshold' AND NOT given ? 'clear_threshold' AND given ? 'for_seconds' AND CASE jsonb_typeof(rule -> 'for_seconds') WHEN 'number' THEN (rule ->> 'for_seconds')::numeric END >= 1
                ELSE given ? 'key' AND given ? 'threshold' END
        ) IS NOT TRUE END
    )
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint
                   WHERE conrelid = 'user_configs'::regclass AND conname = 'user_configs_rules_hold') THEN
        ALTER TABLE user_configs
            ADD CONSTRAINT user_configs_rules_hold CHECK (sluice_rules_hold(rules)) NOT VALID;
    END IF;
END
$$;
