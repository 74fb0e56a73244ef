"""Hostile messages: topics and payloads made up and mutated from valid ones, the same for the same seed."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ingest.loadtest.fleet.payloads import BadMessages

# What parsers, JSON columns, COPY and log lines have stumbled over.
BYTES = (
    b"\x00", b"\\u0000", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\\ud800", b"\\udc00\\ud800",
    b"\\N", b"\\.", b"\\", b'"', b"'", b"\t", b"\r\n", b"{", b"}", b"[", b"]", b":", b",", b"null",
    b"true", b"NaN", b"-Infinity", b"1e999", b"-1e-999", b"-0", b"-0.0", b"00", b"1E5",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1" * 4301,
    b"0." + b"3" * 5000, b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xf0\x9f\x9a\x9a", b"//", b"/*",
    b"\x1b[31m", b"${jndi:x}", b"'; DROP TABLE raw_telemetry; --", b"%s%n", b"__proto__",
)  # fmt: skip
TIMES = (
    "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z",
    "10000-01-01T00:00:00Z", "294276-12-31T23:59:59Z", "2026-02-29T00:00:00Z", "2026-06-30T23:59:60Z",
    "2026-01-01T24:00:00Z", "2026-01-01T00:00:00+23:59", "2026-01-01T00:00:00-24:00", "2026-01-01",
    "now", "infinity", "epoch", "", "2026-01-01T00:00:00.1234567890123Z", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 1e308, 5e-324,
    -0.0, "", "x" * 5000, "\0", "\ud800", "\U0010ffff", [], {}, [[]], {"": {"": ""}}, [None] * 2000,
    {"a\0": 1}, {"constructor": {"prototype": 1}},
)  # fmt: skip
NAMES = (
    "sequence_id", "time", "temperature", "battery", "user_id", "device_id", "extra_data", "",
    "é" * 300, "\0",
)  # fmt: skip
LEVELS = (
    "", " ", "\t", "é", "冷蔵庫", "\ufeff", "\u202e", "x" * 128, "x" * 129, "x" * 5000, "..", "%2f", "'",
    "\\",
)  # fmt: skip
TOPICS = (
    "", "/", "users", "users/", "users/{user}", "users/{user}/devices/{device}",
    "/users/{user}/devices/{device}/telemetry", "users/{user}/devices/{device}/telemetry/",
    "users/{user}/devices/{device}/telemetry/x", "users/{user}/devices//telemetry",
    "users//devices/{device}/telemetry", "USERS/{user}/devices/{device}/telemetry",
    "users/+/devices/#/telemetry", "users/{user}/config", "users/{user}/alerts/manage", "$SYS/broker",
    "users/{user}\0/devices/{device}/telemetry",
)  # fmt: skip


class Hostile(NamedTuple):
    """A message as it might lie in Kafka."""

    topic: bytes
    payload: bytes


def hostile(seed: int, run: str, count: int) -> Iterator[Hostile]:
    """So many messages; the users of those topics that can be parsed mostly begin with `run`."""
    chance = random.Random(seed)
    spoil = BadMessages(max_bytes=262_144, max_depth=32)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for number in range(count):
        user, device = f"{run}-{number % 7}", f"dev-{number % 101}"
        document = _document(chance, number, start + timedelta(milliseconds=number))
        way = chance.randrange(10)
        topic = f"users/{user}/devices/{device}/telemetry".encode()
        payload = json.dumps(document, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
        if way == 0:
            topic = chance.choice(TOPICS).format(user=user, device=device).encode()
        elif way == 1:
            level = chance.choice(LEVELS)
            topic = f"users/{run}-{level}/devices/{chance.choice((device, level))}/telemetry".encode()
        elif way == 2:
            topic = mutated(chance, topic)
        elif way == 3:
            payload = spoil.next(json.dumps(_valid(number, start)).encode())[1]
        elif way == 4:
            payload = chance.randbytes(chance.randrange(200))
        elif way in {5, 6, 7}:
            payload = mutated(chance, payload)
        elif way == 8:
            payload = nested(chance, payload)
        yield Hostile(topic, payload)


def mutated(chance: random.Random, text: bytes) -> bytes:
    """Bytes changed, removed, repeated and put in."""
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(5):
            case 0:
                text = text[:at] + chance.choice(BYTES) + text[at:]
            case 1:
                text = text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :]
            case 2:
                text = text[:at] + text[at + chance.randrange(1, 20) :]
            case 3:
                text = text[:at] + text[max(0, at - chance.randrange(1, 30)) :]
            case 4:
                text = text[:at]
    return text


def nested(chance: random.Random, payload: bytes) -> bytes:
    """An object with one more member, which is deep."""
    depth = chance.choice((5, 31, 32, 33, 500, 5000))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return payload[:-1] + b',"deep":' + opening * depth + b"1" + closing * depth + b"}"


def _valid(number: int, time: datetime) -> dict[str, Any]:
    return {
        "sequence_id": number,
        "time": f"{time:%FT%T.%f}Z",
        "temperature": 20.5,
        "battery": 80,
        "rssi": -60,
    }


def _document(chance: random.Random, number: int, time: datetime) -> dict[str, Any]:
    document = _valid(number, time)
    for _ in range(chance.choice((0, 0, 1, 2, 3))):
        name = chance.choice(NAMES) if chance.random() < 0.7 else f"k{chance.randrange(5)}"
        value = chance.choice(TIMES) if name == "time" and chance.random() < 0.8 else chance.choice(VALUES)
        document[name] = value
    if chance.random() < 0.1:
        del document[chance.choice(("sequence_id", "time", "rssi"))]
    return document
