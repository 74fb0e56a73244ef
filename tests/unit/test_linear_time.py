"""Whatever a stranger writes costs time in line with its size: each parser, at its largest size."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from examples import number, shelly, thingsboard, zigbee2mqtt
from ingest.mqtt.trace import Span, traceparent_of
from tasks.dead_letters.letter import NoLetter, parse_letter
from tasks.domain.columns import (
    Bigint,
    Boolean,
    Double,
    Geometry,
    GeoPoint,
    Integer,
    Json,
    Numeric,
    Point,
    Text,
    Time,
    TopicLevel,
    Uuid,
    sql,
)
from tasks.domain.domain import Domain
from tasks.domain.fast import fast_way
from tasks.domain.payload import Limits, Refused
from tasks.domain.record import Record
from tasks.observe import tracing
from tasks.telemetry import DOMAIN

# CPU time. Linear work takes milliseconds, quadratic work minutes: room for a loaded machine.
MOST_SECONDS = 10.0
SIZE = Limits().max_bytes
TOPIC = "users/u/devices/d/telemetry"


class Everything(Record):
    """A field of each kind."""

    thing: TopicLevel
    time: Time | None = None
    bigint: Bigint | None = None
    integer: Integer | None = None
    double: Double | None = None
    numeric: Numeric | None = None
    text: Text | None = None
    boolean: Boolean | None = None
    uuid: Uuid | None = None
    json_value: Json | None = None
    size: Literal["S", "M"] | None = None
    numbers: list[Double] | None = None
    numerics: list[Numeric] | None = None
    matrix: list[list[Double | None]] | None = None
    texts: list[Text] | None = None
    times: list[Time] | None = None
    points: list[Point] | None = None
    point: Point | None = None
    place: GeoPoint | None = None
    shape: Geometry | None = None
    address: Annotated[str, Field(strict=True), sql("inet", "an IP address")] | None = None


EVERYTHING = Domain(
    Everything,
    name="everything",
    topic="things/{thing}",
    owner="lab",
    source="{thing}",
    table="everything",
    primary_key=("time", "thing"),
)
FORMED: list[tuple[Domain[Any], str]] = [
    (zigbee2mqtt.DOMAIN, "zigbee2mqtt/a"),
    (number.DOMAIN, "home/a/temperature"),
    (shelly.DOMAIN, "shellies/a/relay/0"),
    (thingsboard.DOMAIN, "v1/gateway/telemetry"),
]
# One for each way to read a text, and a value.
READ_TEXTS = ["time", "numeric", "text", "uuid", "size", "point", "shape", "address", "numbers", "undeclared"]
READ_VALUES = ["integer", "numeric", "json_value", "numbers", "numerics", "matrix", "point", "shape"]

TEXTS = {
    "digits": "1" * SIZE,
    "spaces": " " * SIZE,
    "dots": "1." * (SIZE // 2),
    "signs": "-" * SIZE,
    "underscores": "1_" * (SIZE // 2),
    "exponent": "1e" + "9" * SIZE,
    "backslashes": "\\" * (SIZE // 2),
    "quotes": '"' * (SIZE // 2),
    "tabs": "\t" * (SIZE // 2),
    "letters beyond ASCII": "ü" * (SIZE // 2),
    "a fraction of a second": "2026-05-01T10:00:00." + "1" * SIZE,
    "an offset": "2026-05-01T10:00:00+" + "01:" * (SIZE // 3),
    "UUIDs": "urn:uuid:" * (SIZE // 9),
    "braces": "{" * SIZE,
    "a point of digits": "POINT(" + "1" * SIZE,
    "a point of two numbers": f"POINT({'1' * (SIZE // 2)} {'1' * (SIZE // 2)})",
    "a point of spaces": "POINT(1" + " " * SIZE,
    "spaces before a point": " " * SIZE + "POINT",
    "spaces in a point": "SRID=4326;" + " " * (SIZE // 2) + "POINT" + " " * (SIZE // 2),
    "points": "POINT(1 1)" * (SIZE // 10),
}
VALUES: dict[str, Any] = {
    "an integer of many digits": 10**4299,
    "integers": [10**4299] * (SIZE // 4310),
    "a coordinate": {"type": "Point", "coordinates": [10**400, 1]},
    "coordinates": {"type": "Point", "coordinates": [1] * (SIZE // 3)},
    "small numbers": [1] * (SIZE // 3),
    "fractions": [0.1] * (SIZE // 5),
    "short texts": ["x"] * (SIZE // 5),
    "nulls": [None] * (SIZE // 6),
    "empty arrays": [[]] * (SIZE // 4),
    "arrays": [[[[[]]]]] * (SIZE // 12),
    "objects": [{}] * (SIZE // 4),
    "members": {f"{n:x}": 1 for n in range(SIZE // 14)},
}
RAW = {
    "escaped quotes": b'{"traceparent"' + b'\\"' * (SIZE // 2),
    "traceparents": b'{"traceparent"' * (SIZE // 14),
    "members of spaces": b'{"traceparent":' + b" " * SIZE,
    "sequence ids": b'{"sequence_id":' + b"1" * SIZE,
    "quotes": b'"' * SIZE,
    "an open text": b'"' + b"a" * SIZE,
    "arrays in arrays": b"[" * SIZE,
    "objects in objects": b'{"":' * (SIZE // 4),
    "shallow arrays": b'{"a":[' + b"[]," * (SIZE // 3),
    "a number": b"1" * SIZE,
    "a fraction": b"0." + b"1" * SIZE,
    "an exponent": b'{"a":1e' + b"9" * SIZE + b"}",
    "infinities": b'{"a":[' + b"1e999," * (SIZE // 6 - 3) + b"1]}",
    "no UTF-8": b'{"a":"' + b"\xff" * SIZE,
    "half surrogates": b'{"a":"' + b"\\ud800" * (SIZE // 6 - 2) + b'"}',
    "NUL": b'{"a":"' + b"\\u0000" * (SIZE // 6 - 2) + b'"}',
    "one key": b"{" + b'"a":1,' * (SIZE // 6 - 2) + b'"a":1}',
    "spaces": b" " * SIZE,
}


@pytest.fixture(autouse=True, scope="module")
def others_garbage() -> Iterator[None]:
    """Objects that other tests have left are not looked at in the time of these."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextmanager
def little_time() -> Iterator[None]:
    """Fails unless the block takes little of the CPU."""
    begun = time.process_time()
    yield
    assert time.process_time() - begun < MOST_SECONDS


def refuses(domain: Any, topic: str, payload: bytes) -> None:
    """Validates as `process` and `verify` do: a reading or a refusal, and no other error."""
    limits = Limits(max_bytes=2 * SIZE)
    with little_time(), suppress(Refused):
        fast_way(domain)(topic, payload, 0, limits)
        domain.whole(topic, domain.validate(topic, payload, 0, limits))


@pytest.mark.parametrize("name", [*RAW, *TEXTS])
@pytest.mark.parametrize(("domain", "topic"), FORMED, ids=[domain.name for domain, _ in FORMED])
def test_a_payload_of_a_form(domain: Any, topic: str, name: str) -> None:
    """JSON with bare NaN, text, arrays by name, and what a function of the domain unpacks."""
    payload = RAW[name] if name in RAW else json.dumps({"ts": TEXTS[name], "v": [TEXTS[name]]}).encode()
    for content in (payload, b'{"a": nan, "b": ' + payload):
        with little_time(), suppress(Refused):
            domain.read(topic, content, 0, Limits(max_bytes=2 * SIZE + 32))


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_in_any_field(name: str) -> None:
    """Whatever the field is."""
    for field in READ_TEXTS:
        refuses(EVERYTHING, "things/t", json.dumps({field: TEXTS[name]}, ensure_ascii=False).encode())


@pytest.mark.parametrize("name", VALUES)
def test_a_value_in_any_field(name: str) -> None:
    """Arrays, objects and numbers, of the wrong kind or the right one."""
    for field in READ_VALUES:
        refuses(EVERYTHING, "things/t", json.dumps({field: VALUES[name]}, separators=(",", ":")).encode())


@pytest.mark.parametrize("name", RAW)
def test_a_payload_for_the_workers(name: str) -> None:
    """JSON that ends too early, nests too deep, repeats itself or is none at all."""
    refuses(DOMAIN, TOPIC, RAW[name])
    refuses(DOMAIN, TOPIC, RAW[name] + b"}")


@pytest.mark.parametrize("name", [*RAW, *TEXTS])
def test_a_payload_for_the_gateway(name: str) -> None:
    """Its one thread serves all."""
    payload = RAW[name] if name in RAW else json.dumps({"traceparent": TEXTS[name]}).encode()
    for begin in (b"", b'{"traceparent" "sequence_id"'):
        begun = time.process_time()
        traceparent_of(b"\x26" + b"traceparent" * 5000, begin + payload)
        Span(tracing.child(None, sampled=True), None, TOPIC, begin + payload)
        # The time that one message may take from all others is much less.
        assert time.process_time() - begun < MOST_SECONDS / 10


@pytest.mark.parametrize(
    "text", ["/" * 65_535, "users/" * 10_000, "ü" * 32_000, "users/u/devices/d/telemetry/"]
)
def test_a_topic(text: str) -> None:
    """As long as MQTT allows it."""
    refuses(DOMAIN, text, b"{}")


@pytest.mark.parametrize(
    "make",
    [
        lambda text: {"timestamp": text},
        lambda text: {"payload_base64": text},
        lambda text: {"original_topic_base64": text},
        lambda text: {"kafka_timestamp_ms": text},
        lambda text: {"attempts": text},
        lambda _: {"attempts": 10**4299, "kafka_timestamp_ms": 10**4299},
        lambda _: {"kafka_timestamp_ms": 1e300, "attempts": 1e300},
    ],
)
def test_a_dead_letter_that_somebody_else_wrote(make: Callable[[str], dict[str, Any]]) -> None:
    """Anybody who may write to the topic."""
    good = {"timestamp": "2026-05-01T10:00:00+00:00", "payload_base64": "", "original_topic": TOPIC}
    for text in TEXTS.values():
        with little_time(), suppress(NoLetter):
            parse_letter(b"/" * SIZE, json.dumps(good | make(text)).encode(), 0)
