"""The database's check of `user_configs.rules`, made from the model of a rule.

python -m ingest.admin.rulesets.rules_check > sql/0098_rules_check.always.sql
"""

import sys
from typing import Any

from tasks.rules.model import (
    FOR_EVERYONE,
    GROUPS,
    MAX_DEPTH,
    MAX_RULES,
    MIN_ABSENT_SECONDS,
    NOT_FOR_ABSENT,
    NOT_FOR_UNCHANGED,
    OF_ONE,
    ORDERING,
    Condition,
    Flapping,
    Override,
    Rule,
    Step,
)

_HEAD = """\
-- Made from the model of a rule by `python -m ingest.admin.rulesets.rules_check`; not to be edited.
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
    body = (
        f"    jsonb_array_length(rules) <= {MAX_RULES} AND NOT EXISTS (\n"
        "        -- a null means that the field is not given\n"
        "        SELECT FROM jsonb_array_elements(rules) AS one (rule), jsonb_strip_nulls(rule) AS given\n"
        "        WHERE CASE WHEN jsonb_typeof(rule) <> 'object' THEN true ELSE (\n"
        f"            {_joined(_rule_holds(), 12)}\n        ) IS NOT TRUE END\n"
        "    )\n"
    )
    return _HEAD + body + _TAIL


def _rule_holds() -> list[str]:
    schema = Rule.model_json_schema()
    conditions = _fields_hold(schema, "rule", "given")
    conditions += [_given(name) for name in schema["required"]]
    absent = [f"NOT {_given(name)}" for name in NOT_FOR_ABSENT]
    absent += [_given("for_seconds"), f"{_number('for_seconds')} >= {MIN_ABSENT_SECONDS}"]
    together = _together("rule", "given", absent=" AND ".join(absent), group=[_given("id")])
    named = f"NOT starts_with(coalesce(rule ->> 'id', rule ->> 'key', ''), {_text(FOR_EVERYONE)})"
    return [*conditions, named, together, _members_hold("rule", "given", MAX_DEPTH)]


def _members_hold(rule: str, given: str, depth: int) -> str:
    """Whether the conditions inside `all` or `any` hold; an object has one of the two."""
    members = f"CASE WHEN {_given('all', given)} THEN {rule} -> 'all' ELSE {rule} -> 'any' END"
    if depth == 0:
        return f"NOT {given} ?| ARRAY['all', 'any']"
    inner, inner_given = f"c{depth}", f"g{depth}"
    schema = Condition.model_json_schema()["$defs"]["Condition"]
    holds = _fields_hold(schema, inner, inner_given)
    holds.append(_together(inner, inner_given, absent="false", group=[]))
    holds.append(_members_hold(inner, inner_given, depth - 1))
    pad = 12 + 4 * (MAX_DEPTH - depth + 1)
    space = " " * pad
    return (
        f"NOT EXISTS (\n{space}SELECT FROM (SELECT {members}) AS m{depth} (members),"
        f" jsonb_array_elements(CASE jsonb_typeof(members) WHEN 'array' THEN members ELSE '[]' END)"
        f" AS one{depth} ({inner}), jsonb_strip_nulls({inner}) AS {inner_given}"
        f"\n{space}WHERE CASE WHEN jsonb_typeof({inner}) <> 'object' THEN true ELSE (\n{space}    "
        f"{_joined(holds, pad + 4)}\n{space}) IS NOT TRUE END)"
    )


def _together(rule: str, given: str, *, absent: str, group: list[str]) -> str:
    """Whether the fields go together that say what is compared."""
    groups = [f"NOT {_given(name, given)}" for name in OF_ONE] + [f"NOT {given} ?& ARRAY['all', 'any']"]
    unchanged = [_given("key", given), *(f"NOT {_given(name, given)}" for name in NOT_FOR_UNCHANGED)]
    kind = f"jsonb_typeof({rule} -> 'threshold')"
    operator = f"{rule} ->> 'operator'"
    numeric = f"({operator} IN ({', '.join(map(_text, ORDERING))}) OR {_given('change', given)})"
    other = [f"NOT {_given(name, given)}" for name in ("threshold", "clear_threshold")]
    comparison = [
        _given("key", given),
        _given("operator", given),
        f"CASE WHEN {_given('threshold_key', given)} THEN {' AND '.join(other)} AND {operator} <> 'in'"
        f" ELSE {_given('threshold', given)} AND ({kind} = 'array') = ({operator} = 'in')"
        f" AND (NOT {numeric} OR {kind} = 'number') END",
        f"NOT ({_given('change', given)} AND {operator} = 'in')",
        f"NOT ({_given('clear_threshold', given)} AND {operator} = 'in')",
    ]
    whens = [
        (f"{given} ?| ARRAY[{', '.join(map(_text, GROUPS))}]", " AND ".join([*group, *groups])),
        (f"{operator} = 'absent'", absent),
        (f"{operator} = 'unchanged'", " AND ".join(unchanged)),
    ]
    cases = " ".join(f"WHEN {when}\n                THEN {then}" for when, then in whens)
    return f"CASE {cases}\n                ELSE {' AND '.join(comparison)} END"


def _fields_hold(schema: dict[str, Any], rule: str, given: str) -> list[str]:
    fields = schema["properties"]
    known = f"{rule} - ARRAY[{', '.join(map(_text, fields))}] = '{{}}'"
    return [
        known,
        *(f"(NOT {_given(name, given)} OR {_fits(name, one, rule)})" for name, one in fields.items()),
    ]


def _joined(conditions: list[str], pad: int) -> str:
    return f"\n{' ' * pad}AND ".join(conditions)


def _given(name: str, given: str = "given") -> str:
    return f"{given} ? {_text(name)}"


def _fits(name: str, schema: dict[str, Any], rule: str) -> str:
    """Whether a value that is given is what the schema says."""
    kinds = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    value = f"{rule} -> {_text(name)}"
    fits = [_is(kind, value, name) for kind in kinds]
    return fits[0] if len(fits) == 1 else f"({' OR '.join(fits)})"


def _is(kind: dict[str, Any], value: str, name: str) -> str:
    if kind.get("$ref", "").endswith("/Flapping"):
        schema = Flapping.model_json_schema()
        holds = [_given(field, f"({value})") for field in schema["required"]]
        holds += _fields_hold(schema, f"({value})", f"({value})")
        # Asked only of objects: SQL may evaluate the conditions in any order.
        return f"CASE jsonb_typeof({value}) WHEN 'object' THEN {' AND '.join(holds)} ELSE false END"
    known = "number" if kind["type"] == "integer" else kind["type"]
    return f"jsonb_typeof({value}) = {_text(known)}{_bounds(kind, value, name)}"


def _bounds(kind: dict[str, Any], value: str, name: str) -> str:
    """The schema's further conditions, besides the type."""
    checks: list[str] = []
    if kind["type"] in {"number", "integer"}:
        bounds = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
        checks += [f"{_as_number(value)} {sign} {kind[one]}" for one, sign in bounds.items() if one in kind]
        if kind["type"] == "integer":
            checks.append(f"({value} #>> '{{}}') ~ '^-?[0-9]+$'")
    elif kind["type"] == "string":
        text = f"({value} #>> '{{}}')"
        checks += [f"length({text}) >= {kind['minLength']}"] if "minLength" in kind else []
        checks += [f"length({text}) <= {kind['maxLength']}"] if "maxLength" in kind else []
        if "enum" in kind:
            checks.append(f"{text} IN ({', '.join(map(_text, kind['enum']))})")
    elif kind["type"] == "array":
        # Asked only of arrays: SQL may evaluate the conditions in any order.
        length = f"CASE jsonb_typeof({value}) WHEN 'array' THEN jsonb_array_length({value}) END"
        checks.append(f"{length} BETWEEN {kind['minItems']} AND {kind['maxItems']}")
        if kind["items"].get("$ref", "").endswith("/Step"):
            items = f"CASE jsonb_typeof({value}) WHEN 'array' THEN {value} ELSE '[]' END"
            schema = Step.model_json_schema()
            fits_all = [_given(field, "step") for field in schema["required"]]
            fits_all += _fields_hold(schema, "step", "step")
            checks.append(
                f"NOT EXISTS (SELECT FROM jsonb_array_elements({items}) AS s (step)"
                " WHERE CASE WHEN jsonb_typeof(step) <> 'object' THEN true ELSE"
                f" ({' AND '.join(fits_all)}) IS NOT TRUE END)"
            )
        elif "$ref" not in kind["items"]:
            items = f"CASE jsonb_typeof({value}) WHEN 'array' THEN {value} ELSE '[]' END"
            fits = _fits_item(kind["items"])
            checks.append(
                f"NOT EXISTS (SELECT FROM jsonb_array_elements({items}) AS x (item) WHERE NOT {fits})"
            )
    elif kind["type"] == "object":
        # Asked only of objects, for the same reason.
        inner = f"CASE jsonb_typeof({value}) WHEN 'object' THEN {value} ELSE '{{}}' END"
        holds = " AND ".join(_fields_hold(Override.model_json_schema(), "own", "has"))
        count = f"SELECT count(*) FROM jsonb_object_keys({inner})"  # noqa: S608 - our own names
        checks.append(f"({count}) <= {kind['maxProperties']}")
        checks.append(
            f"NOT EXISTS (SELECT FROM jsonb_each({inner}) AS x (pattern, own), jsonb_strip_nulls(own) AS has"
            " WHERE CASE WHEN jsonb_typeof(own) <> 'object' THEN true ELSE"
            f" (length(pattern) BETWEEN 1 AND 128 AND {holds}) IS NOT TRUE END)"
        )
    elif kind["type"] != "boolean":
        raise TypeError(f"the field {name} of a rule is a {kind['type']}, which no check is made for")
    return "".join(f" AND {check}" for check in checks)


def _fits_item(schema: dict[str, Any]) -> str:
    return f"({' OR '.join(_is(kind, 'item', 'threshold') for kind in schema['anyOf'])})"


def _number(name: str) -> str:
    return _as_number(f"rule -> {_text(name)}")


def _as_number(value: str) -> str:
    # Asked only of numbers: SQL may evaluate the conditions in any order.
    return f"CASE jsonb_typeof({value}) WHEN 'number' THEN ({value} #>> '{{}}')::numeric END"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


if __name__ == "__main__":
    sys.stdout.write(sql())
