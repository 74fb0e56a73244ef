"""Whatever a user sends as rules or as a command is parsed or refused, in time in line with its size."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.commands import MAX_COMMAND_BYTES, Command, InvalidCommand, parse_command
from tasks.rules.parsing import MAX_DOCUMENT_BYTES, InvalidRules, parse_rules
from tasks.rules.rule import RuleSet

RULE = (
    "id",
    "key",
    "operator",
    "threshold",
    "message",
    "severity",
    "for_seconds",
    "clear_threshold",
    "domain",
    "threshold_key",
    "change",
    "for_readings",
    "all",
    "any",
    "devices",
    "overrides",
    "escalate",
    "flapping",
    "changes",
    "minutes",
)
COMMAND = ("device_id", "rule_id", "action", "duration_minutes")
# Values on which Python functions raise: beyond a double, beyond the digits of an integer, half a character.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from([10**400, 2**63, "\ud800", "\0", "absent", ">", "SNOOZE", "x" * 5000])
)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.just("\ud800"), inner, max_size=4)
    ),
    max_leaves=10,
)
RULES = st.dictionaries(st.sampled_from(RULE), ANY, max_size=9)
NESTED = st.dictionaries(st.sampled_from(RULE), RULES | st.lists(RULES, max_size=3) | ANY, max_size=6)
DOCUMENTS = st.fixed_dictionaries(
    {"rules": st.lists(RULES | NESTED | ANY, max_size=5)}, optional={"\ud800": ANY, "rule": ANY}
)
COMMANDS = st.dictionaries(st.sampled_from([*COMMAND, "note"]), ANY, max_size=5)


@given(ANY | DOCUMENTS | st.lists(RULES, max_size=5) | st.binary(max_size=200))
def test_any_document_is_a_rule_set_or_refused(document: Any) -> None:
    """Nothing but `InvalidRules` is raised, and every fault is text that can be published."""
    try:
        assert isinstance(parse_rules(document), RuleSet)
    except InvalidRules as error:
        _publishable(error.errors)


@given(ANY | COMMANDS | st.binary(max_size=200))
def test_any_document_is_a_command_or_refused(document: Any) -> None:
    """Nothing but `InvalidCommand` is raised, and every fault is text that can be published."""
    try:
        assert isinstance(parse_command(document), Command)
    except InvalidCommand as error:
        _publishable(error.errors)


@given(ANY | COMMANDS | DOCUMENTS)
def test_the_same_as_bytes(document: Any) -> None:
    """The way from bytes has parsers of its own."""
    try:
        data = json.dumps(document, ensure_ascii=True).encode()
    except ValueError:  # an integer that Python does not write
        return
    for parse, invalid in ((parse_rules, InvalidRules), (parse_command, InvalidCommand)):
        try:
            parse(data)
        except invalid as error:
            _publishable(error.errors)


@pytest.mark.parametrize("field", COMMAND)
@pytest.mark.parametrize(
    "value",
    # Python writes no integer of 5000 digits
    [{}, [], {"a": []}, None, pytest.param(10**5000, id="huge"), True, "\ud800", float("nan")],
)
def test_a_field_of_a_command_may_be_anything(field: str, value: Any) -> None:
    """Each is named as the fault that it is; `null` is a missing one."""
    command = {"device_id": "d", "rule_id": "r", "action": "SNOOZE", "duration_minutes": 5, field: value}
    with pytest.raises(InvalidCommand) as refused:
        parse_command(command)
    assert {error["path"] for error in refused.value.errors} == {field}


def _publishable(errors: list[Any]) -> None:
    assert errors
    for error in errors:
        assert error.keys() == {"path", "message"}
        assert len(error["path"]) <= 300
        assert len(error["message"]) <= 1000
        json.dumps(error, ensure_ascii=False).encode()


def _filled(head: bytes, piece: bytes, tail: bytes, size: int) -> bytes:
    return head + piece * ((size - len(head) - len(tail)) // len(piece)) + tail


WIDE = b",".join(b'"f%d":0' % number for number in range(30_000))
LARGEST: dict[str, bytes] = {
    "unknown fields": b'{"rules":[{' + WIDE[: MAX_DOCUMENT_BYTES - 40].rpartition(b",")[0] + b"}]}",
    "unknown fields of the document": b"{" + WIDE[: MAX_DOCUMENT_BYTES - 40].rpartition(b",")[0] + b"}",
    "a long operator": _filled(b'[{"operator":"', b"=<", b'"}]', MAX_DOCUMENT_BYTES),
    "a long id": _filled(b'[{"id":"', b"\\u0001", b'"}]', MAX_DOCUMENT_BYTES),
    "a long key": _filled(b'[{"key":"', b"a.0.", b'"}]', MAX_DOCUMENT_BYTES),
    "a long number": _filled(b'[{"threshold":', b"9", b"}]", MAX_DOCUMENT_BYTES),
    "nesting": b"[" * MAX_DOCUMENT_BYTES,
    "nested objects": _filled(b"", b'{"a":', b"", MAX_DOCUMENT_BYTES),
    "empty rules": _filled(b"[{}", b",{}", b"]", MAX_DOCUMENT_BYTES),
    "one hundred wide rules": b"[" + b",".join([b"{" + WIDE[:2500].rpartition(b",")[0] + b"}"] * 100) + b"]",
    "backslashes": _filled(b'[{"message":"', b"\\\\", b'"}]', MAX_DOCUMENT_BYTES),
}


@pytest.mark.parametrize("document", LARGEST.values(), ids=LARGEST.keys())
@pytest.mark.parametrize("parse", [parse_rules, parse_command])
def test_the_largest_document_costs_little(document: bytes, parse: Callable[[Any], object]) -> None:
    """Milliseconds of CPU as a rule, at the limit of the size; quadratic work would take minutes."""
    if parse is parse_command:
        document = document[:MAX_COMMAND_BYTES]
    begun = time.process_time()
    with pytest.raises((InvalidRules, InvalidCommand)):
        parse(document)
    assert time.process_time() - begun < 2
