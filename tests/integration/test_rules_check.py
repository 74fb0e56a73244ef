"""The database's own check of rules, made from the model: it refuses what the model refuses in shape."""

import json
import re
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import errors
from pydantic import ValidationError

from ingest.admin.rulesets import rules_check
from ingest.admin.servers import migrate
from tasks.rules.model import Fault, Override
from tasks.rules.parsing import sift_rules
from tests.integration.rule_tables import write_unchecked

Database = psycopg.Connection[tuple[Any, ...]]
HOT = {"key": "temperature", "operator": ">", "threshold": 8, "message": "warm"}
COMPARED = ("key", "operator", "threshold", "clear_threshold", "threshold_key", "change")
FIELDS = (
    *HOT,
    *COMPARED[3:],
    "id",
    "severity",
    "escalate",
    "flapping",
    "for_seconds",
    "for_readings",
    "domain",
    "devices",
    "overrides",
    "colour",
    "all",
    "any",
)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40) | st.sampled_from(
    [
        ">",
        "<=",
        "=>",
        "==",
        "in",
        "unchanged",
        "absent",
        "delta",
        "rate",
        "",
        " ",
        "x" * 128,
        "x" * 129,
        "x" * 257,
        "é" * 500,
        "é" * 501,
    ]
)
NUMBERS = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [0, 1, 0.5, 2_592_000, 2_592_001, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2.0**63, 1e308]
    )
)
STEPS = st.dictionaries(
    st.sampled_from(["threshold", "severity", "x"]), NUMBERS | WORDS | st.none()
) | st.builds(lambda severity, threshold: {"severity": severity, "threshold": threshold}, WORDS, NUMBERS)
ANY: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | NUMBERS
    | WORDS
    | st.just([])
    | st.just({"key": None})
    | st.lists(STEPS, max_size=5)
    | st.dictionaries(
        WORDS,
        st.dictionaries(st.sampled_from(["threshold", "severity", "x"]), st.integers() | WORDS, max_size=2),
        max_size=2,
    )
    | st.lists(NUMBERS | WORDS | st.booleans() | st.just({}), max_size=3)
)
LEAVES = (
    st.dictionaries(st.sampled_from([*COMPARED, "id", "colour"]), ANY, max_size=4)
    | st.dictionaries(st.sampled_from(COMPARED), ANY, max_size=1).map(
        lambda some: {"key": "t", "operator": ">", "threshold": 8} | some
    )
    | st.dictionaries(st.sampled_from(COMPARED), ANY, max_size=2).map(
        lambda some: {"key": "t", "operator": "in", "threshold": ["a", 1]} | some
    )
    | st.just({"key": "t", "operator": "unchanged"})
)


def groups(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Conditions inside `all` or `any`, now and then both."""
    return st.dictionaries(
        st.sampled_from(["all", "any"]), st.lists(inner, max_size=3), min_size=1, max_size=2
    )


CONDITIONS = st.recursive(LEAVES, groups, max_leaves=6)
RULES = (
    st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=6)
    | st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=2).map(lambda some: HOT | some)
    | st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=2).map(
        lambda some: {"operator": "absent", "for_seconds": 60, "message": "gone"} | some
    )
)
RULES |= st.dictionaries(st.sampled_from(["changes", "minutes"]), ANY | st.integers(1, 60)).map(
    lambda some: HOT | {"flapping": some}
)
OWN = st.dictionaries(
    st.sampled_from(["threshold", "clear_threshold", "severity", "escalate", "for_seconds", "message"]),
    ANY,
    max_size=3,
)
RULES |= st.dictionaries(WORDS, OWN | ANY, max_size=3).map(lambda some: HOT | {"overrides": some})
RULES |= CONDITIONS.map(lambda some: {"id": "c", "message": "m"} | some) | groups(CONDITIONS | ANY).map(
    lambda some: {"id": "c", "message": "m"} | some
)
DOCUMENTS = st.lists(RULES | ANY, max_size=3) | ANY | st.just([HOT] * 101)
# Further laws of the model: about characters, two fields together, two rules.
BEYOND_SHAPE = (
    "must be more than",
    "must not be above",
    "must not be below",
    "is not allowed with the operator ==",
    "is not allowed with the operator !=",
    "is already the rule_id",
    "has too many conditions",
    "; it needs one of >",
    "the threshold before it",
    "each step has its own severity",
    "keys may be compared with the reading before",
)


def own_shape_holds(overrides: dict[str, Any]) -> bool:
    """Whether each override has the shape of one, whatever the rule's operator makes of it."""
    for pattern, own in overrides.items():
        if not 1 <= len(pattern) <= 128:
            return False
        try:
            Override.model_validate(own)
        except ValidationError as error:
            for detail in error.errors():
                severity = detail["input"] if detail["loc"][-1] == "severity" else None
                if not (isinstance(severity, str) and 1 <= len(severity) <= 32):
                    return False
    return True


def beyond_shape(document: Any, fault: Fault) -> bool:
    """Whether a fault is none of types, lengths, ranges, operators and fields."""
    if any(words in fault["message"] for words in BEYOND_SHAPE):
        return True
    if ".overrides." in fault["path"]:
        return own_shape_holds(document[int(fault["path"].split(".")[1])]["overrides"])
    value, field = document, ""
    for name in re.findall(r"\w+", fault["path"])[1:]:
        value = value[int(name)] if name.isdigit() else value.get(name)
        field = field if name.isdigit() else name
    if field == "domain":
        return isinstance(value, str)
    longest = {"id": 128, "key": 256, "threshold_key": 256, "message": 500, "severity": 32, "devices": 128}
    if field == "devices" and isinstance(value, list):
        return 1 <= len(value) <= 100 and all(isinstance(one, str) and 1 <= len(one) <= 128 for one in value)
    return isinstance(value, str) and 1 <= len(value) <= longest.get(field, 0)


def holds(database: Database, document: Any) -> Any:
    """The answer of the check."""
    row = database.execute("SELECT sluice_rules_hold(%s::jsonb)", [json.dumps(document)]).fetchone()
    assert row
    return row[0]


def test_the_check_stands_in_the_migrations() -> None:
    """A changed model needs the migration made again: python -m ingest.admin.rulesets.rules_check."""
    (path,) = migrate.SQL_DIR.glob("*_rules_check.always.sql")
    assert path.read_text() == rules_check.sql()


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS)
@example(document=[HOT | {"domain": ""}])
@example(document=[HOT | {"flapping": {"changes": 2, "minutes": 0.5}}])
@example(document=[HOT | {"flapping": {"changes": 2, "minutes": 0}}])
@example(document=[HOT | {"flapping": {"changes": 2, "minutes": 1, "more": 1}}])
@example(document=[HOT | {"escalate": [{"severity": "high", "threshold": 9}]}])
def test_the_check_and_the_model_agree_on_any_document(database: Database, document: Any) -> None:
    """The model refuses all that the check refuses, and the check all that the model refuses in shape."""
    faults = sift_rules(document).faults
    if holds(database, document):
        assert all(beyond_shape(document, fault) for fault in faults), faults
    else:
        assert faults


@pytest.mark.parametrize(
    "wrong",
    [
        {**HOT, "id": "hum", "operator": "=>"},
        {**HOT, "threshold": 2.0**63},
        {**HOT, "threshold": "8"},
        {"key": "t", "operator": ">", "message": "m"},
        {**HOT, "id": "hum", "escalate": [{"severity": "high", "threshold": "9"}]},
        {**HOT, "id": "hum", "flapping": {"changes": 2.5, "minutes": 10}},
        {**HOT, "id": "hum", "flapping": {"changes": 2}},
        {**HOT, "id": "hum", "flapping": 10},
        {**HOT, "id": "hum", "overrides": {"d": {"escalate": [{"severity": "high"}]}}},
        {"id": "c", "message": "m", "all": [HOT]},
        {"id": "c", "message": "m", "all": [{"any": [{"key": "t", "operator": "in", "threshold": 8}]}]},
        {"message": "m", "all": [{"key": "t", "operator": ">", "threshold": 8}]},
    ],
)
def test_a_wrong_rule_is_refused_at_the_update(database: Database, wrong: dict[str, Any]) -> None:
    """A writer by SQL gets the error at once, and the rules that were there stay."""
    user = uuid4().hex[:8]
    database.execute("INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)", [user, json.dumps([HOT])])
    with pytest.raises(errors.CheckViolation, match="user_configs_rules_hold"):
        database.execute(
            "UPDATE user_configs SET rules = %s WHERE user_id = %s", [json.dumps([HOT, wrong]), user]
        )
    row = database.execute("SELECT rules FROM user_configs WHERE user_id = %s", [user]).fetchone()
    assert row == ([HOT],)


def test_wrong_rows_of_before_do_not_hold_up_the_migration(database: Database) -> None:
    """They stay as they are, and may be replaced."""
    user = uuid4().hex[:8]
    write_unchecked(database, user, [{"key": 1}])
    database.execute("UPDATE user_configs SET rules = '[]' WHERE user_id = %s", [user])
