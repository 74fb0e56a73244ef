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
            rule - ARRAY['key', 'operator', 'threshold', 'clear_threshold', 'threshold_key', 'change', 'all', 'any', 'id', 'message', 'severity', 'for_seconds', 'for_readings', 'domain'] = '{}'
            AND (NOT given ? 'key' OR jsonb_typeof(rule -> 'key') = 'string' AND length((rule -> 'key' #>> '{}')) >= 1 AND length((rule -> 'key' #>> '{}')) <= 256)
            AND (NOT given ? 'operator' OR jsonb_typeof(rule -> 'operator') = 'string' AND (rule -> 'operator' #>> '{}') IN ('>', '<', '>=', '<=', '==', '!=', 'in', 'unchanged', 'absent'))
            AND (NOT given ? 'threshold' OR (jsonb_typeof(rule -> 'threshold') = 'number' AND CASE jsonb_typeof(rule -> 'threshold') WHEN 'number' THEN (rule -> 'threshold' #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(rule -> 'threshold') WHEN 'number' THEN (rule -> 'threshold' #>> '{}')::numeric END < 9223372036854775808 OR jsonb_typeof(rule -> 'threshold') = 'string' AND length((rule -> 'threshold' #>> '{}')) <= 256 OR jsonb_typeof(rule -> 'threshold') = 'boolean' OR jsonb_typeof(rule -> 'threshold') = 'array' AND CASE jsonb_typeof(rule -> 'threshold') WHEN 'array' THEN jsonb_array_length(rule -> 'threshold') END BETWEEN 1 AND 100 AND NOT EXISTS (SELECT FROM jsonb_array_elements(CASE jsonb_typeof(rule -> 'threshold') WHEN 'array' THEN rule -> 'threshold' ELSE '[]' END) AS x (item) WHERE NOT (jsonb_typeof(item) = 'number' AND CASE jsonb_typeof(item) WHEN 'number' THEN (item #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(item) WHEN 'number' THEN (item #>> '{}')::numeric END < 9223372036854775808 OR jsonb_typeof(item) = 'string' AND length((item #>> '{}')) <= 256 OR jsonb_typeof(item) = 'boolean'))))
            AND (NOT given ? 'clear_threshold' OR jsonb_typeof(rule -> 'clear_threshold') = 'number' AND CASE jsonb_typeof(rule -> 'clear_threshold') WHEN 'number' THEN (rule -> 'clear_threshold' #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(rule -> 'clear_threshold') WHEN 'number' THEN (rule -> 'clear_threshold' #>> '{}')::numeric END < 9223372036854775808)
            AND (NOT given ? 'threshold_key' OR jsonb_typeof(rule -> 'threshold_key') = 'string' AND length((rule -> 'threshold_key' #>> '{}')) >= 1 AND length((rule -> 'threshold_key' #>> '{}')) <= 256)
            AND (NOT given ? 'change' OR jsonb_typeof(rule -> 'change') = 'string' AND (rule -> 'change' #>> '{}') IN ('delta', 'rate'))
            AND (NOT given ? 'all' OR jsonb_typeof(rule -> 'all') = 'array' AND CASE jsonb_typeof(rule -> 'all') WHEN 'array' THEN jsonb_array_length(rule -> 'all') END BETWEEN 1 AND 16)
            AND (NOT given ? 'any' OR jsonb_typeof(rule -> 'any') = 'array' AND CASE jsonb_typeof(rule -> 'any') WHEN 'array' THEN jsonb_array_length(rule -> 'any') END BETWEEN 1 AND 16)
            AND (NOT given ? 'id' OR jsonb_typeof(rule -> 'id') = 'string' AND length((rule -> 'id' #>> '{}')) >= 1 AND length((rule -> 'id' #>> '{}')) <= 128)
            AND (NOT given ? 'message' OR jsonb_typeof(rule -> 'message') = 'string' AND length((rule -> 'message' #>> '{}')) >= 1 AND length((rule -> 'message' #>> '{}')) <= 500)
            AND (NOT given ? 'severity' OR jsonb_typeof(rule -> 'severity') = 'string' AND length((rule -> 'severity' #>> '{}')) >= 1 AND length((rule -> 'severity' #>> '{}')) <= 32)
            AND (NOT given ? 'for_seconds' OR jsonb_typeof(rule -> 'for_seconds') = 'number' AND CASE jsonb_typeof(rule -> 'for_seconds') WHEN 'number' THEN (rule -> 'for_seconds' #>> '{}')::numeric END >= 0 AND CASE jsonb_typeof(rule -> 'for_seconds') WHEN 'number' THEN (rule -> 'for_seconds' #>> '{}')::numeric END <= 2592000)
            AND (NOT given ? 'for_readings' OR jsonb_typeof(rule -> 'for_readings') = 'number' AND CASE jsonb_typeof(rule -> 'for_readings') WHEN 'number' THEN (rule -> 'for_readings' #>> '{}')::numeric END >= 1 AND CASE jsonb_typeof(rule -> 'for_readings') WHEN 'number' THEN (rule -> 'for_readings' #>> '{}')::numeric END <= 1000 AND (rule -> 'for_readings' #>> '{}') ~ '^-?[0-9]+$')
            AND (NOT given ? 'domain' OR jsonb_typeof(rule -> 'domain') = 'string')
            AND given ? 'message'
            AND CASE WHEN given ?| ARRAY['all', 'any']
                THEN given ? 'id' AND NOT given ? 'key' AND NOT given ? 'operator' AND NOT given ? 'threshold' AND NOT given ? 'clear_threshold' AND NOT given ? 'threshold_key' AND NOT given ? 'change' AND NOT given ?& ARRAY['all', 'any'] WHEN rule ->> 'operator' = 'absent'
                THEN NOT given ? 'threshold' AND NOT given ? 'clear_threshold' AND NOT given ? 'threshold_key' AND NOT given ? 'change' AND NOT given ? 'for_readings' AND given ? 'for_seconds' AND CASE jsonb_typeof(rule -> 'for_seconds') WHEN 'number' THEN (rule -> 'for_seconds' #>> '{}')::numeric END >= 1 WHEN rule ->> 'operator' = 'unchanged'
                THEN given ? 'key' AND NOT given ? 'threshold' AND NOT given ? 'clear_threshold' AND NOT given ? 'threshold_key' AND NOT given ? 'change'
                ELSE given ? 'key' AND given ? 'operator' AND CASE WHEN given ? 'threshold_key' THEN NOT given ? 'threshold' AND NOT given ? 'clear_threshold' AND rule ->> 'operator' <> 'in' ELSE given ? 'threshold' AND (jsonb_typeof(rule -> 'threshold') = 'array') = (rule ->> 'operator' = 'in') AND (NOT (rule ->> 'operator' IN ('>', '<', '>=', '<=') OR given ? 'change') OR jsonb_typeof(rule -> 'threshold') = 'number') END AND NOT (given ? 'change' AND rule ->> 'operator' = 'in') AND NOT (given ? 'clear_threshold' AND rule ->> 'operator' = 'in') END
            AND NOT EXISTS (
                SELECT FROM (SELECT CASE WHEN given ? 'all' THEN rule -> 'all' ELSE rule -> 'any' END) AS m3 (members), jsonb_array_elements(CASE jsonb_typeof(members) WHEN 'array' THEN members ELSE '[]' END) AS one3 (c3), jsonb_strip_nulls(c3) AS g3
                WHERE CASE WHEN jsonb_typeof(c3) <> 'object' THEN true ELSE (
                    c3 - ARRAY['key', 'operator', 'threshold', 'clear_threshold', 'threshold_key', 'change', 'all', 'any'] = '{}'
                    AND (NOT g3 ? 'key' OR jsonb_typeof(c3 -> 'key') = 'string' AND length((c3 -> 'key' #>> '{}')) >= 1 AND length((c3 -> 'key' #>> '{}')) <= 256)
                    AND (NOT g3 ? 'operator' OR jsonb_typeof(c3 -> 'operator') = 'string' AND (c3 -> 'operator' #>> '{}') IN ('>', '<', '>=', '<=', '==', '!=', 'in', 'unchanged', 'absent'))
                    AND (NOT g3 ? 'threshold' OR (jsonb_typeof(c3 -> 'threshold') = 'number' AND CASE jsonb_typeof(c3 -> 'threshold') WHEN 'number' THEN (c3 -> 'threshold' #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(c3 -> 'threshold') WHEN 'number' THEN (c3 -> 'threshold' #>> '{}')::numeric END < 9223372036854775808 OR jsonb_typeof(c3 -> 'threshold') = 'string' AND length((c3 -> 'threshold' #>> '{}')) <= 256 OR jsonb_typeof(c3 -> 'threshold') = 'boolean' OR jsonb_typeof(c3 -> 'threshold') = 'array' AND CASE jsonb_typeof(c3 -> 'threshold') WHEN 'array' THEN jsonb_array_length(c3 -> 'threshold') END BETWEEN 1 AND 100 AND NOT EXISTS (SELECT FROM jsonb_array_elements(CASE jsonb_typeof(c3 -> 'threshold') WHEN 'array' THEN c3 -> 'threshold' ELSE '[]' END) AS x (item) WHERE NOT (jsonb_typeof(item) = 'number' AND CASE jsonb_typeof(item) WHEN 'number' THEN (item #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(item) WHEN 'number' THEN (item #>> '{}')::numeric END < 9223372036854775808 OR jsonb_typeof(item) = 'string' AND length((item #>> '{}')) <= 256 OR jsonb_typeof(item) = 'boolean'))))
                    AND (NOT g3 ? 'clear_threshold' OR jsonb_typeof(c3 -> 'clear_threshold') = 'number' AND CASE jsonb_typeof(c3 -> 'clear_threshold') WHEN 'number' THEN (c3 -> 'clear_threshold' #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(c3 -> 'clear_threshold') WHEN 'number' THEN (c3 -> 'clear_threshold' #>> '{}')::numeric END < 9223372036854775808)
                    AND (NOT g3 ? 'threshold_key' OR jsonb_typeof(c3 -> 'threshold_key') = 'string' AND length((c3 -> 'threshold_key' #>> '{}')) >= 1 AND length((c3 -> 'threshold_key' #>> '{}')) <= 256)
                    AND (NOT g3 ? 'change' OR jsonb_typeof(c3 -> 'change') = 'string' AND (c3 -> 'change' #>> '{}') IN ('delta', 'rate'))
                    AND (NOT g3 ? 'all' OR jsonb_typeof(c3 -> 'all') = 'array' AND CASE jsonb_typeof(c3 -> 'all') WHEN 'array' THEN jsonb_array_length(c3 -> 'all') END BETWEEN 1 AND 16)
                    AND (NOT g3 ? 'any' OR jsonb_typeof(c3 -> 'any') = 'array' AND CASE jsonb_typeof(c3 -> 'any') WHEN 'array' THEN jsonb_array_length(c3 -> 'any') END BETWEEN 1 AND 16)
                    AND CASE WHEN g3 ?| ARRAY['all', 'any']
                THEN NOT g3 ? 'key' AND NOT g3 ? 'operator' AND NOT g3 ? 'threshold' AND NOT g3 ? 'clear_threshold' AND NOT g3 ? 'threshold_key' AND NOT g3 ? 'change' AND NOT g3 ?& ARRAY['all', 'any'] WHEN c3 ->> 'operator' = 'absent'
                THEN false WHEN c3 ->> 'operator' = 'unchanged'
                THEN g3 ? 'key' AND NOT g3 ? 'threshold' AND NOT g3 ? 'clear_threshold' AND NOT g3 ? 'threshold_key' AND NOT g3 ? 'change'
                ELSE g3 ? 'key' AND g3 ? 'operator' AND CASE WHEN g3 ? 'threshold_key' THEN NOT g3 ? 'threshold' AND NOT g3 ? 'clear_threshold' AND c3 ->> 'operator' <> 'in' ELSE g3 ? 'threshold' AND (jsonb_typeof(c3 -> 'threshold') = 'array') = (c3 ->> 'operator' = 'in') AND (NOT (c3 ->> 'operator' IN ('>', '<', '>=', '<=') OR g3 ? 'change') OR jsonb_typeof(c3 -> 'threshold') = 'number') END AND NOT (g3 ? 'change' AND c3 ->> 'operator' = 'in') AND NOT (g3 ? 'clear_threshold' AND c3 ->> 'operator' = 'in') END
                    AND NOT EXISTS (
                    SELECT FROM (SELECT CASE WHEN g3 ? 'all' THEN c3 -> 'all' ELSE c3 -> 'any' END) AS m2 (members), jsonb_array_elements(CASE jsonb_typeof(members) WHEN 'array' THEN members ELSE '[]' END) AS one2 (c2), jsonb_strip_nulls(c2) AS g2
                    WHERE CASE WHEN jsonb_typeof(c2) <> 'object' THEN true ELSE (
                        c2 - ARRAY['key', 'operator', 'threshold', 'clear_threshold', 'threshold_key', 'change', 'all', 'any'] = '{}'
                        AND (NOT g2 ? 'key' OR jsonb_typeof(c2 -> 'key') = 'string' AND length((c2 -> 'key' #>> '{}')) >= 1 AND length((c2 -> 'key' #>> '{}')) <= 256)
                        AND (NOT g2 ? 'operator' OR jsonb_typeof(c2 -> 'operator') = 'string' AND (c2 -> 'operator' #>> '{}') IN ('>', '<', '>=', '<=', '==', '!=', 'in', 'unchanged', 'absent'))
                        AND (NOT g2 ? 'threshold' OR (jsonb_typeof(c2 -> 'threshold') = 'number' AND CASE jsonb_typeof(c2 -> 'threshold') WHEN 'number' THEN (c2 -> 'threshold' #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(c2 -> 'threshold') WHEN 'number' THEN (c2 -> 'threshold' #>> '{}')::numeric END < 9223372036854775808 OR jsonb_typeof(c2 -> 'threshold') = 'string' AND length((c2 -> 'threshold' #>> '{}')) <= 256 OR jsonb_typeof(c2 -> 'threshold') = 'boolean' OR jsonb_typeof(c2 -> 'threshold') = 'array' AND CASE jsonb_typeof(c2 -> 'threshold') WHEN 'array' THEN jsonb_array_length(c2 -> 'threshold') END BETWEEN 1 AND 100 AND NOT EXISTS (SELECT FROM jsonb_array_elements(CASE jsonb_typeof(c2 -> 'threshold') WHEN 'array' THEN c2 -> 'threshold' ELSE '[]' END) AS x (item) WHERE NOT (jsonb_typeof(item) = 'number' AND CASE jsonb_typeof(item) WHEN 'number' THEN (item #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(item) WHEN 'number' THEN (item #>> '{}')::numeric END < 9223372036854775808 OR jsonb_typeof(item) = 'string' AND length((item #>> '{}')) <= 256 OR jsonb_typeof(item) = 'boolean'))))
                        AND (NOT g2 ? 'clear_threshold' OR jsonb_typeof(c2 -> 'clear_threshold') = 'number' AND CASE jsonb_typeof(c2 -> 'clear_threshold') WHEN 'number' THEN (c2 -> 'clear_threshold' #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(c2 -> 'clear_threshold') WHEN 'number' THEN (c2 -> 'clear_threshold' #>> '{}')::numeric END < 9223372036854775808)
                        AND (NOT g2 ? 'threshold_key' OR jsonb_typeof(c2 -> 'threshold_key') = 'string' AND length((c2 -> 'threshold_key' #>> '{}')) >= 1 AND length((c2 -> 'threshold_key' #>> '{}')) <= 256)
                        AND (NOT g2 ? 'change' OR jsonb_typeof(c2 -> 'change') = 'string' AND (c2 -> 'change' #>> '{}') IN ('delta', 'rate'))
                        AND (NOT g2 ? 'all' OR jsonb_typeof(c2 -> 'all') = 'array' AND CASE jsonb_typeof(c2 -> 'all') WHEN 'array' THEN jsonb_array_length(c2 -> 'all') END BETWEEN 1 AND 16)
                        AND (NOT g2 ? 'any' OR jsonb_typeof(c2 -> 'any') = 'array' AND CASE jsonb_typeof(c2 -> 'any') WHEN 'array' THEN jsonb_array_length(c2 -> 'any') END BETWEEN 1 AND 16)
                        AND CASE WHEN g2 ?| ARRAY['all', 'any']
                THEN NOT g2 ? 'key' AND NOT g2 ? 'operator' AND NOT g2 ? 'threshold' AND NOT g2 ? 'clear_threshold' AND NOT g2 ? 'threshold_key' AND NOT g2 ? 'change' AND NOT g2 ?& ARRAY['all', 'any'] WHEN c2 ->> 'operator' = 'absent'
                THEN false WHEN c2 ->> 'operator' = 'unchanged'
                THEN g2 ? 'key' AND NOT g2 ? 'threshold' AND NOT g2 ? 'clear_threshold' AND NOT g2 ? 'threshold_key' AND NOT g2 ? 'change'
                ELSE g2 ? 'key' AND g2 ? 'operator' AND CASE WHEN g2 ? 'threshold_key' THEN NOT g2 ? 'threshold' AND NOT g2 ? 'clear_threshold' AND c2 ->> 'operator' <> 'in' ELSE g2 ? 'threshold' AND (jsonb_typeof(c2 -> 'threshold') = 'array') = (c2 ->> 'operator' = 'in') AND (NOT (c2 ->> 'operator' IN ('>', '<', '>=', '<=') OR g2 ? 'change') OR jsonb_typeof(c2 -> 'threshold') = 'number') END AND NOT (g2 ? 'change' AND c2 ->> 'operator' = 'in') AND NOT (g2 ? 'clear_threshold' AND c2 ->> 'operator' = 'in') END
                        AND NOT EXISTS (
                        SELECT FROM (SELECT CASE WHEN g2 ? 'all' THEN c2 -> 'all' ELSE c2 -> 'any' END) AS m1 (members), jsonb_array_elements(CASE jsonb_typeof(members) WHEN 'array' THEN members ELSE '[]' END) AS one1 (c1), jsonb_strip_nulls(c1) AS g1
                        WHERE CASE WHEN jsonb_typeof(c1) <> 'object' THEN true ELSE (
                            c1 - ARRAY['key', 'operator', 'threshold', 'clear_threshold', 'threshold_key', 'change', 'all', 'any'] = '{}'
                            AND (NOT g1 ? 'key' OR jsonb_typeof(c1 -> 'key') = 'string' AND length((c1 -> 'key' #>> '{}')) >= 1 AND length((c1 -> 'key' #>> '{}')) <= 256)
                            AND (NOT g1 ? 'operator' OR jsonb_typeof(c1 -> 'operator') = 'string' AND (c1 -> 'operator' #>> '{}') IN ('>', '<', '>=', '<=', '==', '!=', 'in', 'unchanged', 'absent'))
                            AND (NOT g1 ? 'threshold' OR (jsonb_typeof(c1 -> 'threshold') = 'number' AND CASE jsonb_typeof(c1 -> 'threshold') WHEN 'number' THEN (c1 -> 'threshold' #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(c1 -> 'threshold') WHEN 'number' THEN (c1 -> 'threshold' #>> '{}')::numeric END < 9223372036854775808 OR jsonb_typeof(c1 -> 'threshold') = 'string' AND length((c1 -> 'threshold' #>> '{}')) <= 256 OR jsonb_typeof(c1 -> 'threshold') = 'boolean' OR jsonb_typeof(c1 -> 'threshold') = 'array' AND CASE jsonb_typeof(c1 -> 'threshold') WHEN 'array' THEN jsonb_array_length(c1 -> 'threshold') END BETWEEN 1 AND 100 AND NOT EXISTS (SELECT FROM jsonb_array_elements(CASE jsonb_typeof(c1 -> 'threshold') WHEN 'array' THEN c1 -> 'threshold' ELSE '[]' END) AS x (item) WHERE NOT (jsonb_typeof(item) = 'number' AND CASE jsonb_typeof(item) WHEN 'number' THEN (item #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(item) WHEN 'number' THEN (item #>> '{}')::numeric END < 9223372036854775808 OR jsonb_typeof(item) = 'string' AND length((item #>> '{}')) <= 256 OR jsonb_typeof(item) = 'boolean'))))
                            AND (NOT g1 ? 'clear_threshold' OR jsonb_typeof(c1 -> 'clear_threshold') = 'number' AND CASE jsonb_typeof(c1 -> 'clear_threshold') WHEN 'number' THEN (c1 -> 'clear_threshold' #>> '{}')::numeric END >= -9223372036854775808 AND CASE jsonb_typeof(c1 -> 'clear_threshold') WHEN 'number' THEN (c1 -> 'clear_threshold' #>> '{}')::numeric END < 9223372036854775808)
                            AND (NOT g1 ? 'threshold_key' OR jsonb_typeof(c1 -> 'threshold_key') = 'string' AND length((c1 -> 'threshold_key' #>> '{}')) >= 1 AND length((c1 -> 'threshold_key' #>> '{}')) <= 256)
                            AND (NOT g1 ? 'change' OR jsonb_typeof(c1 -> 'change') = 'string' AND (c1 -> 'change' #>> '{}') IN ('delta', 'rate'))
                            AND (NOT g1 ? 'all' OR jsonb_typeof(c1 -> 'all') = 'array' AND CASE jsonb_typeof(c1 -> 'all') WHEN 'array' THEN jsonb_array_length(c1 -> 'all') END BETWEEN 1 AND 16)
                            AND (NOT g1 ? 'any' OR jsonb_typeof(c1 -> 'any') = 'array' AND CASE jsonb_typeof(c1 -> 'any') WHEN 'array' THEN jsonb_array_length(c1 -> 'any') END BETWEEN 1 AND 16)
                            AND CASE WHEN g1 ?| ARRAY['all', 'any']
                THEN NOT g1 ? 'key' AND NOT g1 ? 'operator' AND NOT g1 ? 'threshold' AND NOT g1 ? 'clear_threshold' AND NOT g1 ? 'threshold_key' AND NOT g1 ? 'change' AND NOT g1 ?& ARRAY['all', 'any'] WHEN c1 ->> 'operator' = 'absent'
                THEN false WHEN c1 ->> 'operator' = 'unchanged'
                THEN g1 ? 'key' AND NOT g1 ? 'threshold' AND NOT g1 ? 'clear_threshold' AND NOT g1 ? 'threshold_key' AND NOT g1 ? 'change'
                ELSE g1 ? 'key' AND g1 ? 'operator' AND CASE WHEN g1 ? 'threshold_key' THEN NOT g1 ? 'threshold' AND NOT g1 ? 'clear_threshold' AND c1 ->> 'operator' <> 'in' ELSE g1 ? 'threshold' AND (jsonb_typeof(c1 -> 'threshold') = 'array') = (c1 ->> 'operator' = 'in') AND (NOT (c1 ->> 'operator' IN ('>', '<', '>=', '<=') OR g1 ? 'change') OR jsonb_typeof(c1 -> 'threshold') = 'number') END AND NOT (g1 ? 'change' AND c1 ->> 'operator' = 'in') AND NOT (g1 ? 'clear_threshold' AND c1 ->> 'operator' = 'in') END
                            AND NOT g1 ?| ARRAY['all', 'any']
                        ) IS NOT TRUE END)
                    ) IS NOT TRUE END)
                ) IS NOT TRUE END)
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
