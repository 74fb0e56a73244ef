"""Payloads: what is JSON that jsonb can hold comes through exactly, all else is refused with its reason."""

import json
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.domain import payload as payload_module
from tasks.domain.payload import DEEPEST, ErrorType, Limits, Refused, parse, refuse_faults
from tests.payloads import VALUES, documents, filled, with_hole, written

LIMITS = Limits()


def outcome(payload: bytes, limits: Limits = LIMITS) -> Any:
    """The value, or the type of error: all faults by `parse` itself, but for the one that it leaves."""
    try:
        value = parse(payload, limits)
    except Refused as refused:
        return told(refused)
    try:
        refuse_faults(value, limits)
    except Refused as refused:
        return f"{told(refused)} after parsing"
    return value


def told(refused: Refused) -> str:
    """The type of error, after a look at whether the refusal is fit to be told."""
    assert refused.error_type in get_args(ErrorType)
    assert 0 < len(refused.reason) <= 300
    assert refused.reason.isprintable()
    return refused.error_type


def nested(depth: int) -> bytes:
    """An object that holds `depth - 1` arrays in each other."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("payload", "error_type", "part_of_reason"),
    [
        (b"", "InvalidJson", "empty"),
        (b" \n", "InvalidJson", "Expecting value"),
        (b"hello", "InvalidJson", "line 1, column 1"),
        (b'{"a": 1', "InvalidJson", "column 8"),
        (b'{"a": 1} x', "InvalidJson", "Extra data"),
        (b'{"a": 1}{"a": 1}', "InvalidJson", "Extra data"),
        (b"{'a': 1}", "InvalidJson", "double quotes"),
        (b'{"a": 1,}', "InvalidJson", "line 1"),
        (b'{"a": 01}', "InvalidJson", "line 1"),
        (b'{"a": "\t"}', "InvalidJson", "control character"),
        (b'{"a": "\x00"}', "InvalidJson", "control character"),
        (b'\xef\xbb\xbf{"a": 1}', "InvalidJson", "BOM"),
        (b'{"a": "\xff"}', "InvalidJson", "byte 7 (0xff)"),
        (b'{"a": "\xed\xa0\x80"}', "InvalidJson", "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "InvalidJson", "UTF-8"),
        (b"17", "NotAnObject", "the number 17"),
        (b'"text"', "NotAnObject", 'the string "text"'),
        (b"null", "NotAnObject", "null"),
        (b"true", "NotAnObject", "true"),
        (b'[{"a": 1}]', "NotAnObject", "an array"),
        (b'{"a": {"b": [1, NaN]}}', "NotFinite", "`a.b.1`"),
        (b'{"a": Infinity}', "NotFinite", "`a`"),
        (b'{"a": -Infinity}', "NotFinite", "`a`"),
        (b'{"a": 1e999}', "NotFinite", "`a`"),
        (b'{"a": [-1e999]}', "NotFinite", "`a.0`"),
        (b'{"a": "\\u0000"}', "NulCharacter", "`a`"),
        (b'{"a": {"x\\u0000y": 1}}', "NulCharacter", r"`a.x\x00y`"),
        (b'{"a": "\\\\\\u0000"}', "NulCharacter", "`a`"),
        (b'{"a": "\\ud800"}', "LoneSurrogate", "`a`"),
        (b'{"a": ["\\udc00\\ud800"]}', "LoneSurrogate", "`a.0`"),
        (b'{"\\udbff": 1}', "LoneSurrogate", r"`\udbff`"),
        (b'{"a": ' + b"9" * 4301 + b"}", "OutOfRange", "4300 digits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "OutOfRange", "4300 digits"),
        (nested(33), "TooDeep", "32 levels"),
        (b"[" * 100_000, "TooDeep", "deep"),
        (b'{"a":' * 40_000, "TooDeep", "deep"),
        (b'"' + b"x" * 262_143 + b'"', "TooLarge", "262145 bytes; at most 262144"),
        (b'"' + b"x" * 1_000_000 + b'"', "TooLarge", "at most 262144"),
    ],
)
def test_refusals(payload: bytes, error_type: str, part_of_reason: str) -> None:
    """Each kind of bad payload is refused by its own name, with a reason that says where and what."""
    with pytest.raises(Refused) as caught:
        refuse_faults(parse(payload, LIMITS), LIMITS)
    assert caught.value.error_type == error_type
    assert part_of_reason in caught.value.reason


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"{}", {}),
        (b' {"a": 1}\r\n', {"a": 1}),
        (b'{"a": 1, "a": {"b": 2}}', {"a": {"b": 2}}),
        (b'{"a": "\\\\u0000"}', {"a": "\\u0000"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": "Infinity NaN [[[ {{{"}', {"a": "Infinity NaN [[[ {{{"}),
        (b'{"a": ' + b"9" * 4300 + b"}", {"a": 10**4300 - 1}),
        (b'{"a": 1e-999}', {"a": 0.0}),
        (b'{"": ""}', {"": ""}),
    ],
)
def test_accepted(payload: bytes, value: dict[str, Any]) -> None:
    """A value that only looks suspicious is accepted, exactly; a key that comes twice has its last value."""
    assert outcome(payload) == value


@pytest.mark.parametrize(
    ("payload", "error_type"),
    [
        (b'{"a": "\\u0000", "b": NaN}', "NulCharacter"),
        (b'{"a": NaN, "b": "\\u0000"}', "NotFinite"),
        (b'{"a": ["\\ud800", {"\\u0000": 1}]}', "LoneSurrogate"),
        (b'{"a": [{"\\u0000": 1}, "\\ud800"]}', "NulCharacter"),
    ],
)
def test_the_first_fault_names_the_refusal(payload: bytes, error_type: str) -> None:
    """The first value in the document that cannot be stored gives the reason."""
    assert outcome(payload) == error_type


def test_the_depth_limit_is_exact() -> None:
    """As many levels as allowed are accepted, one more is not, and siblings do not add up."""
    assert outcome(nested(32)) == json.loads(nested(32))
    assert outcome(nested(33)) == "TooDeep"
    siblings = b'{"a": [' + b",".join([b'[{"b": 1}]'] * 500) + b"]}"
    assert outcome(siblings) == json.loads(siblings)
    assert outcome(siblings, Limits(max_depth=3)) == "TooDeep"


def test_the_size_limit_is_exact() -> None:
    """A payload of just the allowed size is accepted."""
    payload = b'{"a": "' + b"x" * 100 + b'"}'
    assert outcome(payload, Limits(max_bytes=len(payload))) == {"a": "x" * 100}
    assert outcome(payload, Limits(max_bytes=len(payload) - 1)) == "TooLarge"


def test_the_deepest_limit_is_one_that_the_parser_keeps() -> None:
    """The largest limit that can be configured is honoured to the level, and a larger one is refused."""
    limits = Limits(max_depth=DEEPEST)
    assert outcome(nested(DEEPEST), limits) == json.loads(nested(DEEPEST))
    assert outcome(nested(DEEPEST + 1), limits) == "TooDeep"
    with pytest.raises(ValueError, match="200"):
        Limits(max_depth=DEEPEST + 1)


@given(document=documents(), ascii_only=st.booleans())
def test_documents_come_through_exactly(document: dict[str, Any], ascii_only: bool) -> None:
    """Unicode, nesting, integers of any size and doubles are what they were, to the type."""
    assert repr(outcome(written(document, ascii_only=ascii_only))) == repr(document)


@given(
    payload=with_hole(keys=False),
    token=st.sampled_from([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-2E+400"]),
)
def test_no_number_but_a_finite_one(payload: bytes, token: bytes) -> None:
    """NaN and infinities are refused wherever they stand."""
    assert str(outcome(filled(payload, token))).removesuffix(" after parsing") == "NotFinite"


@given(
    payload=with_hole(keys=True), around=st.tuples(st.text("ab\\é", max_size=3), st.text("ab\\é", max_size=3))
)
def test_no_nul(payload: bytes, around: tuple[str, str]) -> None:
    """A NUL is refused in every value and key, also after a backslash."""
    text = "\0".join(around)
    assert outcome(filled(payload, json.dumps(text).encode())) == "NulCharacter"


@given(payload=with_hole(keys=True), slashes=st.integers(1, 4))
def test_an_escaped_backslash_makes_no_nul(payload: bytes, slashes: int) -> None:
    """Backslashes before the letters u0000 are text, whatever their number."""
    text = "\\" * slashes + "u0000"
    assert isinstance(outcome(filled(payload, json.dumps(text).encode())), dict)


@given(
    payload=with_hole(keys=True),
    surrogate=st.integers(0xD800, 0xDFFF),
    around=st.tuples(st.text("ab\\é", max_size=3), st.text("ab\\é", max_size=3)),
)
def test_no_lone_surrogate(payload: bytes, surrogate: int, around: tuple[str, str]) -> None:
    """Half of a surrogate pair is refused in every value and key."""
    text = chr(surrogate).join(around)
    assert outcome(filled(payload, json.dumps(text).encode())) == "LoneSurrogate"


@given(payload=with_hole(keys=False), depth=st.integers(32, 1500), brackets=st.sampled_from([b"[]", b"{}"]))
def test_not_too_deep(payload: bytes, depth: int, brackets: bytes) -> None:
    """Nesting deeper than the limit is refused wherever it stands."""
    opening = b"[" if brackets == b"[]" else b'{"x":'
    inner = b"1" if brackets == b"{}" else b""
    assert outcome(filled(payload, opening * depth + inner + brackets[1:] * depth)) == "TooDeep"


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.integers(0, 3),
        st.sampled_from(
            [b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"9" * 4301, b"9" * 4301 + b".5", b"[" * 210]
        )
        | st.binary(max_size=4)
        | st.sampled_from([bytes([byte]) for byte in b'{}[]",:\\0eE+-. \n\xff']),
    ),
    min_size=1,
    max_size=4,
)


@given(document=documents(), mutations=MUTATIONS)
def test_one_verdict_by_either_way(document: dict[str, Any], mutations: list[tuple[int, int, bytes]]) -> None:
    """The fast parser and Python's own agree on every payload, good or broken, and on the kind of refusal."""
    payload = written(document)
    for position, removed, inserted in mutations:
        start = position % (len(payload) + 1)
        payload = payload[:start] + inserted + payload[start + removed :]
    assert repr(outcome(payload)).replace(" after parsing", "") == repr(slow_outcome(payload))


def slow_outcome(payload: bytes) -> Any:
    """The outcome when only the slow way is taken."""
    try:
        value = payload_module._parse_slowly(payload)
        refuse_faults(value, LIMITS)
    except Refused as refused:
        return refused.error_type
    return value if isinstance(value, dict) else "NotAnObject"


@settings(deadline=None)  # the largest payloads take their time on a busy machine
@given(
    payload=st.binary()
    | VALUES.map(written)
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@example(payload=b'{"a": ' + b"9" * 5000 + b".5}")
@example(payload=b'{"a": ' + b"9" * 5000 + b".5e-4990}")
@example(payload=b'{"a": [' + b"[]," * 80_000 + b'"\\\\u0000"]}')
@example(payload=b'{"' + "é\\n\u2028".encode() * 1000 + b'": NaN}')
@example(payload=b'{"a":' * 31 + b'{"' + b"k" * 200_000 + b'":NaN}' + b"}" * 31)
def test_whatever_comes_is_an_object_or_refused(payload: bytes) -> None:
    """No bytes raise anything but `Refused`, whose reason is short and printable."""
    found = outcome(payload)
    assert isinstance(found, dict | str)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (
            b'{"sequence_id":1,"Time":"2026-11-20T19:57:31","ENERGY":{"Tot',
            "the payload must be JSON: Unterminated string starting at line 1, column 57",
        ),
        (b'{"a": "\n"}', "the payload must be JSON: Invalid control character at line 1, column 8"),
        (b'{"a" 1}', "the payload must be JSON: Expecting ':' delimiter at line 1, column 6"),
    ],
)
def test_a_reason_says_where_once(payload: bytes, reason: str) -> None:
    """Some of the parser's own messages end in the preposition that follows."""
    with pytest.raises(Refused) as refused:
        parse(payload, Limits())
    assert refused.value.reason == reason
