"""Rule sets: what is accepted, which errors a user gets for the rest, and what violates a rule."""

import json
from typing import Any, get_args

import pytest

from tasks.rules.condition import COMPARE
from tasks.rules.model import MAX_RULES, Operator
from tasks.rules.parsing import MAX_DOCUMENT_BYTES, MAX_FAULTS, InvalidRules, parse_rules
from tasks.rules.rule import RuleSet

HOT = {"key": "temperature", "operator": ">", "threshold": 30, "message": "too hot"}
SILENT = {"operator": "absent", "for_seconds": 60, "message": "silent"}


def faults(*rules: Any) -> dict[str, str]:
    """The faults of a rule set, by path."""
    with pytest.raises(InvalidRules) as caught:
        parse_rules({"rules": list(rules)})
    return {error["path"]: error["message"] for error in caught.value.errors}


def violated(operator: str, threshold: float, value: Any) -> bool:
    """Whether a value violates a comparison."""
    rules = parse_rules([{**HOT, "operator": operator, "threshold": threshold}])
    return rules.any_violated({"temperature": value})


def test_a_rule_set_may_come_as_bytes_as_an_object_or_as_the_array() -> None:
    """The document of MQTT and the array in SQL mean the same."""
    by_bytes = parse_rules(json.dumps({"rules": [HOT]}).encode())
    assert by_bytes == parse_rules({"rules": [HOT]}) == parse_rules([HOT])


def test_no_rules_are_a_rule_set() -> None:
    """An empty array is how a user takes all rules back."""
    assert parse_rules({"rules": []}) == RuleSet()


def test_the_rule_id_is_the_id_or_else_the_key() -> None:
    """A rule is called by its `id`, or by its `key`; the absence of a whole device has a name, too."""
    rules = parse_rules([HOT, {**HOT, "id": "hotter", "threshold": 50}, SILENT])
    assert list(rules.by_id) == ["temperature", "hotter", "absent"]


def test_optional_fields_have_defaults_and_null_means_not_given() -> None:
    """Without for_seconds a rule triggers at once, and null is like leaving a field out."""
    (rule,) = parse_rules([{**HOT, "for_seconds": None, "severity": None, "id": None}]).rules
    assert (rule.for_seconds, rule.severity, rule.id) == (0, "warning", None)


def test_every_fault_is_told_at_once_each_with_its_path() -> None:
    """One answer is enough to mend the whole document."""
    found = faults(
        {"key": "a", "operator": "=>", "mesage": "x", "for_seconds": -1},
        5,
        {**HOT, "threshold": "30"},
        {**HOT, "id": "b", "clear_threshold": 31},
    )
    assert found.keys() == {
        "rules.0.operator",
        "rules.0.message",
        "rules.0.mesage",
        "rules.0.threshold",
        "rules.0.for_seconds",
        "rules.1",
        "rules.2.threshold",
        "rules.3.clear_threshold",
    }


def test_a_misspelt_field_is_named_with_the_one_that_was_meant() -> None:
    """An unknown field is an error, because a rule without it would do something else."""
    assert "`clear_threshold`" in faults({**HOT, "clear_treshold": 1})["rules.0.clear_treshold"]
    assert "rules.0.note" in faults({**HOT, "note": None})


def test_a_wrong_operator_is_answered_with_the_right_one() -> None:
    """An operator is recognised under the names of other languages."""
    assert "`>=`" in faults({**HOT, "operator": "=>"})["rules.0.operator"]
    assert "`absent`" in faults({**HOT, "operator": "Absent"})["rules.0.operator"]


@pytest.mark.parametrize(
    "threshold", [True, "7", [], float("nan"), float("inf"), 2**63, 2.0**63, -1e19, 10**400]
)
def test_a_threshold_is_a_finite_number(threshold: Any) -> None:
    """Nor are booleans and strings; a float beyond 64 bits would come back from the table as an integer."""
    assert "must be a finite number" in faults({**HOT, "threshold": threshold})["rules.0.threshold"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "x" * 257),
        ("key", ""),
        ("key", "a\nb"),
        ("id", "x" * 129),
        ("id", " "),
        ("id", 7),
        ("message", "x" * 501),
        ("message", " "),
        ("message", "a\0b"),
        ("severity", "x" * 33),
        ("for_seconds", 30 * 86_400 + 1),
        ("for_seconds", True),
        ("for_seconds", "60"),
        ("for_seconds", float("nan")),
    ],
)
def test_lengths_types_and_ranges_are_bounded(field: str, value: Any) -> None:
    """The error for a field beyond its bounds says what it must be."""
    assert "must be" in faults({**HOT, field: value})[f"rules.0.{field}"]


def test_two_rules_of_one_id_are_an_error() -> None:
    """An alert must name one rule; the error for the later one names the earlier."""
    assert "rules.0" in faults(HOT, {**HOT, "operator": "<"})["rules.1.key"]
    assert "rules.0" in faults(HOT, {**HOT, "key": "x", "id": "temperature"})["rules.1.id"]
    assert "rules.0" in faults(SILENT, SILENT)["rules.1"]


@pytest.mark.parametrize("operator", [">", ">="])
def test_clear_threshold_lies_on_the_side_where_all_is_well(operator: str) -> None:
    """Hysteresis the wrong way round would resolve an alert while its rule is violated."""
    assert "above" in faults({**HOT, "operator": operator, "clear_threshold": 31})["rules.0.clear_threshold"]
    opposite = operator.replace(">", "<")
    assert "below" in faults({**HOT, "operator": opposite, "clear_threshold": 29})["rules.0.clear_threshold"]
    parse_rules([{**HOT, "operator": operator, "clear_threshold": 30}])
    parse_rules([{**HOT, "operator": opposite, "clear_threshold": 31}])


@pytest.mark.parametrize("operator", ["==", "!="])
def test_equality_has_no_hysteresis(operator: str) -> None:
    """There is no "beyond" for == and !=."""
    assert (
        "is not allowed with"
        in faults({**HOT, "operator": operator, "clear_threshold": 30})["rules.0.clear_threshold"]
    )


def test_an_absence_needs_a_time_and_no_threshold() -> None:
    """The operator absent is about time alone."""
    found = faults({**SILENT, "for_seconds": 0.5, "threshold": 1}, {**HOT, "operator": "absent", "id": "x"})
    assert found.keys() == {
        "rules.0.for_seconds",
        "rules.0.threshold",
        "rules.1.threshold",
        "rules.1.for_seconds",
    }


def test_the_number_of_rules_is_bounded() -> None:
    """One user's rules cannot take the workers' time from the others."""
    rules = [{**HOT, "id": str(index)} for index in range(MAX_RULES + 1)]
    parse_rules(rules[:-1])
    assert f"at most {MAX_RULES}" in faults(*rules)["rules"]


def test_the_document_is_bounded() -> None:
    """A document is refused by its size before it is parsed."""
    with pytest.raises(InvalidRules, match="at most"):
        parse_rules(b"[" + b" " * MAX_DOCUMENT_BYTES + b"]")


def test_the_answer_is_bounded() -> None:
    """A document of nonsense gets the first faults and how many more there are."""
    found = faults(*[{str(index): 1 for index in range(20)}] * MAX_RULES)
    assert len(found) == MAX_FAULTS + 1
    assert "more errors" in found["rules"]


@pytest.mark.parametrize(
    "document", [b"", b"{", b"[}", b"7", b"{}", b'{"rulez": []}', b"\xff", "x", 7, None, {}]
)
def test_what_is_no_rule_set_is_refused(document: Any) -> None:
    """Whatever comes, the answer is a list of faults."""
    with pytest.raises(InvalidRules) as caught:
        parse_rules(document)
    assert "rules" in {error["path"] for error in caught.value.errors}


def test_a_stray_field_of_the_document_hides_no_other_fault() -> None:
    """The document's own faults and its rules' are reported together."""
    with pytest.raises(InvalidRules) as caught:
        parse_rules({"rule": [], "rules": [{}]})
    paths = {error["path"] for error in caught.value.errors}
    assert paths == {"rule", "rules.0.operator", "rules.0.message", "rules.0.key", "rules.0.threshold"}


@pytest.mark.parametrize(
    ("operator", "below", "equal", "above"),
    [
        (">", False, False, True),
        ("<", True, False, False),
        (">=", False, True, True),
        ("<=", True, True, False),
        ("==", False, True, False),
        ("!=", True, False, True),
    ],
)
def test_the_operators(operator: str, below: bool, equal: bool, above: bool) -> None:
    """A value violates a rule if `value operator threshold` holds."""
    assert [violated(operator, 30, value) for value in (29.5, 30, 31)] == [below, equal, above]
    assert violated(operator, 30, 30.0) == equal


@pytest.mark.parametrize("value", [True, False, None, "99", [], {}, [99]])
def test_what_is_no_number_violates_nothing(value: Any) -> None:
    """Booleans and numeric strings are not numbers."""
    assert not any(violated(operator, 0, value) for operator in (">", "<", ">=", "<=", "==", "!="))


def test_floats_compare_as_written() -> None:
    """There is no tolerance, and integers beyond double precision stay exact."""
    assert violated("!=", 0.3, 0.1 + 0.2)
    assert violated(">", 2**53, 2**53 + 1)
    assert violated(">", 1.5, 10**300)


def test_a_nested_value_is_found() -> None:
    """A rule's key is a dotted path."""
    rules = parse_rules([{**HOT, "key": "motor.phases.1"}])
    assert rules.any_violated({"motor": {"phases": [0, 31]}})
    assert not rules.any_violated({"motor": {"phases": [31]}})


def test_a_name_with_dots_inside_an_object_is_written_in_quotes() -> None:
    """A smart meter names its registers by codes such as 1.8.0."""
    rules = parse_rules([{**HOT, "key": 'meter."1.8.0"'}])
    assert rules.any_violated({"meter": {"1.8.0": 123.4}})
    assert not rules.any_violated({"meter": {"1": {"8": [123.4]}}})


def test_an_absence_violates_nothing_by_itself() -> None:
    """Absences are judged by the clock, never by a payload."""
    rules = parse_rules([SILENT, {**SILENT, "key": "battery"}])
    assert not rules.any_violated({"battery": 1})
    assert rules.absent_keys == {"battery"}


def test_text_with_a_lone_surrogate_is_not_a_rule_set() -> None:
    """Such text is not valid Unicode, and is refused like any other that is not JSON."""
    with pytest.raises(InvalidRules, match="must be JSON"):
        parse_rules("\ud800")


def test_every_operator_has_a_comparison() -> None:
    """One without would judge as another does."""
    assert COMPARE.keys() == set(get_args(Operator)) - {"in", "unchanged", "absent"}
