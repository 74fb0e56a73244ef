"""The fast way: what it returns is what the validator returns, and the validator has the last word."""

from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.batch.messages import Message
from tasks.domain.domain import AnyDomain
from tasks.domain.fast import fast_way
from tasks.domain.payload import Limits
from tasks.rows.validate import validate
from tasks.telemetry import DOMAIN
from tests.payloads import IDS, TEXTS, VALUES, documents, times, with_hole, written
from tests.unit.tasks.domain.hostile import DECLARED, EVERYTHING, OTHERS, changed, damaged
from tests.unit.tasks.domain.ways import LIMITS, TOPIC, USUAL, assert_same, outcome

# Each example of the largest property is changed this often: more than 20,000 payloads in all, and fewer
# where the profile has fewer examples.
MORE = settings(max_examples=4 * settings().max_examples)
DAMAGES = 60


def test_a_usual_message_takes_the_fast_way() -> None:
    """Otherwise nothing below would say much."""
    assert assert_same(DOMAIN, USUAL)
    assert assert_same(DOMAIN, b'{"sequence_id":1}')
    assert assert_same(DOMAIN, b'{"sequence_id":1.0,"battery":85.0}')
    assert assert_same(DOMAIN, b'{"sequence_id":1,"time":null,"user_id":"ann","device_id":null}')
    assert assert_same(EVERYTHING, b'{"at":"2026-05-01T10:00Z","number":1,"level":1,"name":"a","on":true}')


NASTY = [
    b"",
    b"null",
    b"[]",
    b"17",
    b'{"sequence_id":1',
    b"\xef\xbb\xbf" + USUAL,
    b" \n" + USUAL + b"\t ",
    USUAL + b"x",
    USUAL + USUAL,
    USUAL[:-1] + b',"sequence_id":18}',
    USUAL[:-1] + b',"sequence_id":"18"}',
    USUAL[:-1] + b',"ok":false,"ok":{"ok":[]}}',
    USUAL[:-1] + b',"\\u0073equence_id":18}',
    USUAL[:-1] + b',"user_id":"bob"}',
    USUAL[:-1] + b',"user_id":null,"device_id":"d1"}',
    USUAL[:-1] + b',"user_id":1}',
    USUAL[:-1] + b',"a":1e999}',
    USUAL[:-1] + b',"a":-1e999}',
    USUAL[:-1] + b',"a":1' + b"0" * 400 + b"}",
    USUAL[:-1] + b',"a":1' + b"0" * 400 + b".0}",
    USUAL[:-1] + b',"a":"Infinity"}',
    USUAL[:-1] + b',"a":NaN}',
    USUAL[:-1] + b',"a":"\\u0000"}',
    USUAL[:-1] + b',"a":"\\\\u0000"}',
    USUAL[:-1] + b',"\\u0000":1}',
    USUAL[:-1] + b',"a":"\\ud800"}',
    USUAL[:-1] + b',"a":"\\ud83d\\ude00\\n\\t\\\\"}',
    USUAL[:-1] + b',"a":"\xff"}',
    USUAL[:-1] + b',"a":"\x00"}',
    USUAL[:-1] + b',"z":1 , "a" : [ 1.50, 1E2, -0.0, 0.10 ]}',
    USUAL[:-1] + b',"a":' + b"[" * 7 + b"]" * 7 + b"}",
    USUAL[:-1] + b',"a":' + b"[" * 8 + b"]" * 8 + b"}",
    USUAL[:-1] + b',"a":"' + b"[" * 20 + b'"}',
    USUAL[:-1] + b',"a":"' + b"x" * 5000 + b'"}',
    *(
        b'{"sequence_id":%b}' % text
        for text in (b"1.0", b"1e3", b"-0", b"true", b'"1"', b"null", b"01", b"1.5")
    ),
    *(
        b'{"sequence_id":1,"battery":%b}' % text
        for text in (
            b"85", b"85.0", b"-0.0", b"-0", b"8.5e1", b"85.5", b"1e12", b"1e300", b"1e400", b"NaN", b'"85"',
            b"2147483647", b"2147483648", b"2147483647.0", b"2147483648.0", b"-2147483648.0",
            b"-2147483649", b"9007199254740993.0", b"true",
        )
    ),
    *(b'{"sequence_id":%d}' % number for number in (2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**30)),
    *(
        b'{"sequence_id":1,"temperature":%b}' % text
        for text in (
            b"-0.0", b"-0", b"1e400", b"-1e400", b"1e308", b"5e-324", b"1e-400", b"0.1", b"1e16", b"1E+2",
            b"123456789012345678", b"9007199254740993", b"9" * 309, b"true", b'"1"', b"NaN", b"null",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("payload", NASTY)
def test_nasty_payloads(payload: bytes) -> None:
    """Each has the same row or the same refusal by either way."""
    assert_same(DOMAIN, payload)
    assert_same(EVERYTHING, payload)


TIMES = [
    "2026-05-01T10:00:00Z",
    "2026-05-01T10:00:00.000Z",
    "2026-05-01T10:00:00.120Z",
    "2026-05-01T10:00:00.000000Z",
    "2026-05-01T10:00:00.000001Z",
    "2026-05-01T10:00:00,123Z",
    "2026-05-01T10:00:00.1234567Z",
    "2026-05-01T10:00:00z",
    "2026-05-01t10:00:00Z",
    "2026-05-01 10:00:00Z",
    "2026-05-01T10:00Z",
    "2026-05-01T10:00:00+00:00",
    "2026-05-01T10:00:00.120+00:00",
    "2026-05-01T10:00:00.000000+00:00",
    "2026-05-01T10:00:00.000001+00:00",
    "2026-05-01T10:00:00+00:00Z",
    "2026-05-01T10:00:00.+02:00Z",
    "2026-05-01T10:00:00-00:00",
    "2026-05-01T10:00:00+02:00",
    "2026-05-01T24:00:00Z",
    "2026-05-01T10:00:60Z",
    "2026-02-29T10:00:00Z",
    "2026-W01-1T10:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999Z",
    "0000-01-01T00:00:00Z",
    "2026-05-01T10:00:00.ab1Z",
    "2026-05-01T10:00:00.+12Z",
    "2026-05-01T10:00:00.12ZZ",
    "2026-05-01T10:00:0\u0661Z",
    "2026-05-01T10:00:00.00\u0660Z",
    "2026-05-01T10:00:00",
    "",
    1767261600,
    1.5,
    True,
    [],
    {},
]
MUTATED = st.builds(
    lambda text, place, size, more: (
        text[: place % (len(text) + 1)] + more + text[place % (len(text) + 1) + size :]
    ),
    st.sampled_from([one for one in TIMES if isinstance(one, str)]),
    st.integers(0, 40),
    st.integers(0, 2),
    st.text("0123456789TtZz:.,+-W \u0661", max_size=2),
)


@pytest.mark.parametrize("time", TIMES)
def test_times(time: Any) -> None:
    """A time has the same text by either way, or the same refusal."""
    for of in (DOMAIN, EVERYTHING):
        assert_same(of, written({"sequence_id": 1, "number": 1, "level": 0.5, "name": "", "on": False,
                                 of.time: time}))  # fmt: skip


@MORE
@given(time=MUTATED | times().map(lambda pair: pair[0]))
def test_any_time(time: str) -> None:
    """The same for times with a fault anywhere."""
    assert_same(DOMAIN, written({"sequence_id": 1, "time": time}))


RAW = st.sampled_from(
    [b"1e999", b"-0.0", b"NaN", b"-Infinity", b'"\\ud800"', b'"\\u0000"', b"1" * 400, b"[[[[[[[[[]]]]]]]]]",
     b'"\xed\xa0\x80"', b"1.0", b"1E5", b"true", b'"12"', b'{"a":1,"a":2}', b"tru", b"", b" 1 ", b"-"]
)  # fmt: skip
NAMES = st.sampled_from([*DECLARED, *OTHERS, "Infinity", "extra", "\\", ""])
VALUE = VALUES.map(written) | RAW | times().map(lambda pair: written(pair[0]))
MEMBERS = st.lists(st.tuples((NAMES | TEXTS).map(written), VALUE), max_size=8)
SPACES = st.sampled_from([b"", b"", b" ", b"\n\t"])


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """JSON objects, or nearly, whose members may come twice and may be of any type."""
    members = [
        draw(SPACES) + name + draw(SPACES) + b":" + draw(SPACES) + value for name, value in draw(MEMBERS)
    ]
    if draw(st.booleans()):
        members.insert(
            0, b'"sequence_id":1,"at":"2026-05-01T10:00Z","number":1,"level":1,"name":"a","on":true'
        )
    return draw(SPACES) + b"{" + b",".join(members) + b"}" + draw(SPACES)


@MORE
@given(
    payload=objects()
    | documents().map(written)
    | with_hole(keys=True)
    | st.binary(max_size=20)
    | st.just(USUAL),
    of=st.sampled_from([DOMAIN, EVERYTHING]),
    timestamp_ms=st.integers(-1, 2**48) | st.integers(),
    seed=st.integers(0, 2**32),
)
@example(payload=USUAL, of=DOMAIN, timestamp_ms=0, seed=0)
def test_any_payload(payload: bytes, of: AnyDomain, timestamp_ms: int, seed: int) -> None:
    """Both ways agree: on row, fields and payload, or on type and reason of the refusal."""
    assert_same(of, payload, timestamp_ms=timestamp_ms)
    chance = Random(seed)
    for number in range(DAMAGES):
        other = changed(payload, chance) if number % 3 else damaged(payload, chance)
        assert_same(of, other, timestamp_ms=timestamp_ms)


@MORE
@given(
    document=documents(),
    claims=st.dictionaries(st.sampled_from(["user_id", "device_id"]), IDS | st.none() | st.integers()),
    ids=st.tuples(IDS, IDS),
    ascii_only=st.booleans(),
)
def test_any_topic(
    document: dict[str, Any], claims: dict[str, Any], ids: tuple[str, str], ascii_only: bool
) -> None:
    """The same for any source, and for payloads that claim one."""
    topic = f"users/{ids[0]}/devices/{ids[1]}/telemetry"
    assert_same(DOMAIN, written({**document, **claims}, ascii_only=ascii_only), topic)
    claimed = {**document, "user_id": ids[0], "device_id": ids[1]}
    assert_same(DOMAIN, written(claimed, ascii_only=ascii_only), topic)


def test_the_pipeline_uses_both_ways() -> None:
    """Each message becomes its row or its dead letter, with the place that it came from."""
    messages = [
        Message(3, offset, 5, TOPIC, "", 0, payload) for offset, payload in enumerate([*NASTY, USUAL])
    ]
    readings, dead = validate(DOMAIN, messages)[:2]
    found: dict[int, Any] = {one.message.offset: one.reading.copy_line for one in readings}
    found |= {one.message.offset: (one.error_type, one.error) for one in dead}
    assert len(readings) + len(dead) == len(messages)
    assert found == {one.offset: expected_of(one.payload) for one in messages}


def expected_of(payload: bytes) -> Any:
    """The row of the validator alone, or its refusal."""
    found = outcome(DOMAIN.validate, TOPIC, payload, 5, Limits())
    return found if isinstance(found[0], str) else found[0].copy_line


@given(topic=st.text(max_size=20) | st.sampled_from(["", "users/a/devices/b", "users//devices/d/telemetry"]))
def test_any_invalid_topic(topic: str) -> None:
    """A topic is refused for the same reason, whatever the payload."""
    assert outcome(fast_way(DOMAIN), topic, b"{", 0, LIMITS) == outcome(
        DOMAIN.validate, topic, b"{", 0, LIMITS
    )
