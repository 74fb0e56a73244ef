"""Telemetry: a message becomes exactly its row, or is refused for a reason that a device maker can act on."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.domain import routing
from tasks.domain.declaration import Declaration
from tasks.domain.domain import Source
from tasks.domain.payload import Limits, Refused
from tasks.settings import Settings
from tasks.telemetry import DOMAIN, Telemetry
from tests.copy_text import decode_line
from tests.payloads import DECLARED, IDS, VALUES, documents, written
from tests.unit.tasks.telemetry_readings import GOOD, LIMITS, TOPIC, outcome, reading, refusal


def row(line: bytes) -> dict[str, str | None]:
    """The columns of a line."""
    return dict(zip(DOMAIN.columns, decode_line(line), strict=True))


def test_a_reading() -> None:
    """An ordinary message: the columns, the source, and the payload as it came."""
    found = reading({**GOOD, "rssi": -71, "tags": ["süd"]})
    assert found.copy_line.decode() == (
        '2026-05-01T10:00:00Z\tann\td1\t17\t21.5\t93\t{"rssi":-71,"tags":["süd"]}\n'
    )
    assert found.source == Source("ann", "d1")
    assert found.time == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert dict(found.fields) == {"time": found.time, "sequence_id": 17, "temperature": 21.5, "battery": 93}
    assert found.payload == {**GOOD, "rssi": -71, "tags": ["süd"]}


def test_the_sql_names() -> None:
    """Table, columns and key are those that dashboards and migrations rely on."""
    assert DOMAIN.table == "raw_telemetry"
    assert DOMAIN.columns == (
        "time",
        "user_id",
        "device_id",
        "sequence_id",
        "temperature",
        "battery",
        "extra_data",
    )
    assert DOMAIN.primary_key == ("time", "user_id", "device_id", "sequence_id")
    assert '"raw_telemetry" ("time", "user_id", ' in DOMAIN.copy


@given(
    document=documents(),
    source=st.tuples(IDS, IDS),
    timestamp_ms=st.integers(0, 253_402_300_799_999),
    ascii_only=st.booleans(),
)
def test_what_is_sent_is_what_is_stored(
    document: dict[str, Any], source: tuple[str, str], timestamp_ms: int, ascii_only: bool
) -> None:
    """Each column of the row, decoded by other means, holds what the device sent, and nothing is left out."""
    topic = f"users/{source[0]}/devices/{source[1]}/telemetry"
    found = row(
        DOMAIN.validate(topic, written(document, ascii_only=ascii_only), timestamp_ms, LIMITS).copy_line
    )
    assert (found["user_id"], found["device_id"]) == source
    assert found["sequence_id"] == str(document["sequence_id"])
    for name, kind in (("temperature", float), ("battery", int)):
        sent = document.get(name)
        assert found[name] == (None if sent is None else repr(kind(sent)))
    stored = datetime.fromisoformat(found["time"] or "")
    assert stored.utcoffset() == timedelta(0)
    if document.get("time") is None:
        assert stored == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=timestamp_ms)
    else:
        assert stored == datetime.fromisoformat(document["time"].upper())
    extra = {name: value for name, value in document.items() if name not in DECLARED}
    assert repr(json.loads(found["extra_data"] or "")) == repr(extra)


@pytest.mark.parametrize(
    ("change", "error_type", "reason"),
    [
        (
            {"sequence_id": "17"},
            "InvalidField",
            '`sequence_id` must be a 64-bit integer, got the string "17"',
        ),
        (
            {"sequence_id": 17.5},
            "InvalidField",
            "`sequence_id` must be a 64-bit integer, got the number 17.5",
        ),
        ({"sequence_id": True}, "InvalidField", "`sequence_id` must be a 64-bit integer, got true"),
        ({"sequence_id": None}, "InvalidField", "`sequence_id` must be a 64-bit integer, got null"),
        ({"sequence_id": [1]}, "InvalidField", "`sequence_id` must be a 64-bit integer, got an array"),
        (
            {"sequence_id": 2**63},
            "OutOfRange",
            "`sequence_id` must be a 64-bit integer, got the number 9223372036854775808",
        ),
        (
            {"sequence_id": -(2**63) - 1},
            "OutOfRange",
            "`sequence_id` must be a 64-bit integer, got the number -9223372036854775809",
        ),
        ({"temperature": "21"}, "InvalidField", '`temperature` must be a finite number, got the string "21"'),
        ({"temperature": False}, "InvalidField", "`temperature` must be a finite number, got false"),
        ({"battery": {"level": 1}}, "InvalidField", "`battery` must be a 32-bit integer, got an object"),
        (
            {"battery": 85.5},
            "InvalidField",
            "`battery` must be a 32-bit integer, got the number 85.5;"
            " a domain that declares it as `Double` takes fractions",
        ),
        ({"battery": 2**31}, "OutOfRange", "`battery` must be a 32-bit integer, got the number 2147483648"),
        ({"battery": 1e12}, "OutOfRange", "`battery` must be a 32-bit integer, got the number 1000000000000"),
        (
            {"temperature": 10**309},
            "OutOfRange",
            "`temperature` must be a finite number, got the number 1000000000000000000000000000000…",
        ),
        (
            {"temperature": "a", "battery": "b", "sequence_id": "c", "time": "d"},
            "InvalidTime",
            "`time` must be a string with an ISO 8601 time such as 2026-05-01T10:00:00Z, "
            'got the string "d"; `sequence_id` must be a 64-bit integer, got the string "c"; '
            '`temperature` must be a finite number, got the string "a"; '
            '`battery` must be a 32-bit integer, got the string "b"',
        ),
        (
            {"user_id": "bob"},
            "ForeignClaim",
            '`user_id` is the string "bob", but the topic says the string "ann"',
        ),
        ({"device_id": 1}, "ForeignClaim", '`device_id` is the number 1, but the topic says the string "d1"'),
    ],
)
def test_refused_fields(change: dict[str, Any], error_type: str, reason: str) -> None:
    """Every field that is wrong is named, with what it must be and what came."""
    found = refusal({**GOOD, **change})
    assert (found.error_type, found.reason) == (error_type, reason)


def test_a_long_reason_names_every_field() -> None:
    """However long the values, all wrong fields are named within the reason's length."""
    names = ("time", "sequence_id", "temperature", "battery")
    found = refusal(dict.fromkeys(names, "x" * 1000))
    assert len(found.reason) == 300
    assert all(f"`{name}`" in found.reason for name in names)


def test_a_missing_field() -> None:
    """Without `sequence_id` there is no row, and the reason says which field is missing."""
    found = refusal({"temperature": 1})
    assert (found.error_type, found.reason) == (
        "MissingField",
        "`sequence_id` is missing; it must be a 64-bit integer",
    )


def test_the_first_of_several_faults_names_the_refusal() -> None:
    """The topic, then the JSON, then the claims, then the fields, then the record's timestamp."""
    faults = {"x": "?", "user_id": "bob", "sequence_id": "17"}
    everything = written(faults).replace(b'"?"', b"1e999")
    assert refusal(everything, topic="nowhere", timestamp_ms=-1).error_type == "InvalidTopic"
    assert refusal(everything, timestamp_ms=-1).error_type == "NotFinite"
    assert refusal(faults, timestamp_ms=-1).error_type == "ForeignClaim"
    assert refusal({"sequence_id": "17"}, timestamp_ms=-1).error_type == "InvalidField"
    assert refusal({"sequence_id": 17}, timestamp_ms=-1).error_type == "InvalidTime"


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
@pytest.mark.parametrize("name", ["temperature", "battery", "sequence_id", "anything"])
def test_no_infinity_in_any_field(name: str, number: str) -> None:
    """A number that is none is refused as such in a declared field as in any other."""
    payload = written({**GOOD, name: "?"}).replace(b'"?"', number.encode())
    assert refusal(payload).error_type == "NotFinite"


@given(value=VALUES, name=st.sampled_from(["sequence_id", "temperature", "battery", "time"]))
def test_no_value_is_converted(value: Any, name: str) -> None:
    """A declared field takes its own JSON type, and every other value is refused, never bent into shape.

    JSON has one kind of number, so 5922.0 is an integer, while a double has its digits.
    """
    numeric = type(value) in (int, float)
    if name in {"sequence_id", "battery"}:
        exact = type(value) is float and abs(value) <= 2**53 and value.is_integer()
        bound = 2**63 if name == "sequence_id" else 2**31
        fits = (exact or type(value) is int) and -bound <= value < bound
        fits = fits or (name == "battery" and value is None)
    elif name == "time":
        fits = value is None
    else:
        fits = value is None or (numeric and abs(value) < 2**1024 - 2**970)
    document = {**GOOD, name: value}
    assert fits == isinstance(outcome(TOPIC, written(document)), bytes)


@given(number=st.integers(-(2**53), 2**53), document=documents())
@example(number=2**53, document={})
@example(number=-(2**53), document={})
def test_an_integer_may_be_written_with_a_point(number: int, document: dict[str, Any]) -> None:
    """The row is the same as that of the integer without a fraction."""
    plain, pointed = ({**document, "sequence_id": sent} for sent in (number, float(number)))
    assert reading(pointed).copy_line == reading(plain).copy_line


@pytest.mark.parametrize("number", [2.0**53 + 2, -(2.0**53) - 2, 1e300, 0.5, 5922.000001])
def test_a_float_that_is_not_an_exact_integer_is_refused(number: float) -> None:
    """Beyond 2^53 the digits that came are not those that were sent."""
    assert refusal({"sequence_id": number}).reason.startswith("`sequence_id` must be a 64-bit integer")


@given(
    document=documents(), claims=st.fixed_dictionaries({}, optional={"user_id": VALUES, "device_id": VALUES})
)
@example(document={"sequence_id": 1}, claims={"user_id": "ann", "device_id": "d1"})
@example(document={"sequence_id": 1}, claims={"user_id": None, "device_id": None})
@example(document={"sequence_id": 1}, claims={"user_id": "ann", "device_id": "d2"})
def test_claims(document: dict[str, Any], claims: dict[str, Any]) -> None:
    """Its own source a payload may repeat (or leave null), to no effect; any other is refused."""
    foreign = any(
        claims.get(name) not in (None, own) for name, own in (("user_id", "ann"), ("device_id", "d1"))
    )
    expected = "ForeignClaim" if foreign else outcome(TOPIC, written(document))
    assert outcome(TOPIC, written({**document, **claims})) == expected


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "telemetry",
        "users/ann/devices/d1",
        "users/ann/devices/d1/telemetry/",
        "/users/ann/devices/d1/telemetry",
        "users/ann/devices/d1/Telemetry",
        "user/ann/devices/d1/telemetry",
        "users//devices/d1/telemetry",
        "users/ann/devices/ /telemetry",
        "users/+/devices/d1/telemetry",
        "users/ann/devices/#/telemetry",
        "users/ann/devices/d\n1/telemetry",
        "users/ann/devices/d\x001/telemetry",
        "users/ann/devices/\udcff/telemetry",
        "users/" + "x" * 129 + "/devices/d1/telemetry",
        "users/{user_id}/devices//telemetry",
        "users/a/devices/b/telemetry" + "x" * 100_000,
    ],
)
def test_topics_that_name_no_device(topic: str) -> None:
    """A topic of another shape, or with an id that none can have, is refused."""
    assert refusal(GOOD, topic=topic).error_type == "InvalidTopic"
    with pytest.raises(Refused, match="InvalidTopic"):
        DOMAIN.parse_topic(topic)


@given(
    topic=st.text() | st.lists(st.sampled_from(["users", "devices", "telemetry", "a", "", "+"])).map("/".join)
)
@example(topic="users/users/devices/devices/telemetry")
def test_any_topic_is_a_source_or_refused(topic: str) -> None:
    """A topic gives the two ids that build it again, or is refused."""
    try:
        source = DOMAIN.parse_topic(topic)
        found = f"users/{source.user_id}/devices/{source.device_id}/telemetry"
    except Refused as refused:
        found = refused.error_type
    assert found in (topic, "InvalidTopic")


@given(
    payloads=st.lists(
        documents().map(written)
        | VALUES.map(written)
        | st.binary(max_size=20)
        | st.just(b'{"sequence_id":NaN}'),
        max_size=8,
    )
)
def test_neighbours_change_nothing(payloads: list[bytes]) -> None:
    """A message's fate is the same alone, after others, before others, and in another process."""
    together = [outcome(TOPIC, payload) for payload in payloads]
    again = [outcome(TOPIC, payload) for payload in reversed(payloads)][::-1]
    assert together == again
    for payload, found in zip(payloads, together, strict=True):
        fresh = Declaration(
            Telemetry,
            Source,
            topic=DOMAIN.topic,
            table=DOMAIN.table,
            primary_key=DOMAIN.primary_key,
        )
        try:
            alone: bytes | str = fresh.validate(TOPIC, payload, 0, LIMITS).copy_line
        except Refused as refused:
            alone = refused.error_type
        assert alone == found


@given(document=documents(), limit=st.integers(2, 400))
def test_the_limits_are_those_given(document: dict[str, Any], limit: int) -> None:
    """The caller's limits hold, whatever the defaults are."""
    payload = written(document)
    if len(payload) > limit:
        with pytest.raises(Refused, match="TooLarge"):
            DOMAIN.validate(TOPIC, payload, 0, Limits(max_bytes=limit))
    else:
        DOMAIN.validate(TOPIC, payload, 0, Limits(max_bytes=limit))


def test_the_configured_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits come from the settings, and a depth that the parser cannot keep is refused there."""
    monkeypatch.setattr(routing, "settings", lambda: Settings(payload_max_bytes=1000, payload_max_depth=5))
    assert routing.limits() == Limits(max_bytes=1000, max_depth=5)
    with pytest.raises(ValidationError, match="payload_max_depth"):
        Settings(payload_max_depth=201)
