"""The database's check of `user_configs.rules`, made from the model of a rule.

python -m ingest.admin.rules_check > sql/0098_rules_check.always.sql
"""

import sys
from typing import Any

from tasks.rules.model import FOR_COMPARING, MAX_RULES, MIN_ABSENT_SECONDS, NOT_FOR_ABSENT, Rule

_HEAD = """\
-- Made from the model of a rule by `python -m ingest.admin.rules_check`; not to be edited.
-- Refuses what is wrong in shape: types, lengths, ranges, operators, fields that are missing or unknown.
-- The rest, for example two rules of one name, the control process reports. Existing rows stay as they are.
CREATE OR REPLACE FUNCTION sluice_rules_hold(rules jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN jsonb_typeof(rules) <> 'array' THEN false ELSE
"""
_TAIL = """\
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
"""


def sql() -> str:
    """The migration."""
    schema = Rule.model_json_schema()
    fields = schema["properties"]
    conditions = [f"rule - ARRAY[{', '.join(map(_text, fields))}] = '{{}}'"]
    conditions += [_given(name) for name in schema["required"]]
    conditions += [f"(NOT {_given(name)} OR {_fits(name, one)})" for name, one in fields.items()]
    absent = [f"NOT {_given(name)}" for name in NOT_FOR_ABSENT]
    absent += [_given("for_seconds"), f"{_number('for_seconds')} >= {MIN_ABSENT_SECONDS}"]
    conditions.append(
        f"CASE WHEN rule ->> 'operator' = 'absent' THEN {' AND '.join(absent)}\n"
        f"                ELSE {' AND '.join(map(_given, FOR_COMPARING))} END"
    )
    joined = "\n            AND ".join(conditions)
    body = (
        f"    jsonb_array_length(rules) <= {MAX_RULES} AND NOT EXISTS (\n"
        "        -- a null means that the field is not given\n"
        "        SELECT FROM jsonb_array_elements(rules) AS one (rule), jsonb_strip_nulls(rule) AS given\n"
        "        WHERE CASE WHEN jsonb_typeof(rule) <> 'object' THEN true ELSE (\n"
        f"            {joined}\n        ) IS NOT TRUE END\n"
        "    )\n"
    )
    return _HEAD + body + _TAIL


def _given(name: str) -> str:
    return f"given ? {_text(name)}"


def _fits(name: str, schema: dict[str, Any]) -> str:
    """Whether a value that is given is what the schema says."""
    kinds = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    if len(kinds) != 1:
        raise TypeError(f"the field {name} of a rule has no single type")
    (kind,) = kinds
    checks = [f"jsonb_typeof(rule -> {_text(name)}) = {_text(kind['type'])}"]
    if kind["type"] == "number":
        bounds = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
        checks += [f"{_number(name)} {sign} {kind[bound]}" for bound, sign in bounds.items() if bound in kind]
    elif kind["type"] == "string":
        length = f"length(rule ->> {_text(name)})"
        checks += [f"{length} >= {kind['minLength']}"] if "minLength" in kind else []
        checks += [f"{length} <= {kind['maxLength']}"] if "maxLength" in kind else []
        if "enum" in kind:
            checks.append(f"rule ->> {_text(name)} IN ({', '.join(map(_text, kind['enum']))})")
    else:
        raise TypeError(f"the field {name} of a rule is a {kind['type']}, which has no check")
    return " AND ".join(checks)


def _number(name: str) -> str:
    # Asked only of numbers: SQL may evaluate the conditions in any order.
    value = f"rule -> {_text(name)}"
    return f"CASE jsonb_typeof({value}) WHEN 'number' THEN (rule ->> {_text(name)})::numeric END"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


if __name__ == "__main__":
    sys.stdout.write(sql())
