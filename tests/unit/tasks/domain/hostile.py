"""Payloads that go wrong in a place or two, and a domain with every kind of field that has a fast way."""

from random import Random
from typing import Any

from tasks.domain import Bigint, Boolean, Double, Integer, Record, Text, Time, TopicLevel
from tasks.domain.declaration import Reading
from tasks.telemetry import DOMAIN
from tests.unit.tasks.domain.ways import LIMITS, TOPIC, USUAL, assert_same, domain

DECLARED = ["sequence_id", "time", "temperature", "battery", "user_id", "device_id"]
OTHERS = ["number", "small", "level", "name", "note", "on", "off", "at"]


class Everything(Record):
    """Every kind that has a fast way, required and optional."""

    user_id: TopicLevel
    device_id: TopicLevel
    at: Time
    number: Bigint
    small: Integer | None = None
    level: Double
    name: Text
    note: Text | None = None
    on: Boolean
    off: Boolean | None = None


EVERYTHING = domain(Everything, extra=None)
USUAL_OF_BOTH = (
    USUAL[:-1] + b',"at":"2026-05-01T10:00:00.25Z","number":1,"level":1.5,"name":"a","on":true,"small":3}'
)


PIECES = [
    *rb'" \ { } [ ] , : - . e999 0 1 \u0000 \ud800 true null NaN Infinity [[[[[[[[[ "a":1,'.split(),
    b" ",
    b"\xff",
    b"\x00",
]
NUMBERS = b"0 -0 -0.0 0.1 1.0 1.50 1e2 1E400 -1e400 1e16 9007199254740993 9223372036854775808 5e-324".split()
VALUES_OF_ALL = [
    *NUMBERS,
    b"9" * 309,
    *rb"""true false null "" "x" "12" "\n" "\\" "\u00e9" "\u0000" "\ud800" "\ud83d\ude00" "Infinity" [] {}
    [1,{"a":[]}] [[[[[[[]]]]]]] [[[[[[[[]]]]]]]] {"a":1,"a":2} "ann" "bob" "d1" "2026-05-01T10:00:00Z"
    "2026-05-01T10:00:00.120Z" "2026-05-01T10:00:00.000Z" "2026-05-01T10:00:00,5+02:00" """.split(),
]
MEMBER_NAMES = [*(f'"{name}"'.encode() for name in [*DECLARED, *OTHERS]), b'"a"', rb'"\u0074ime"', rb'"\\"']


def number(chance: Random) -> bytes:
    """A number, or nearly: of any length, with or without a fraction and an exponent."""
    digits = [str(chance.getrandbits(chance.choice([1, 4, 30, 53, 64, 70, 400]))) for _ in range(2)]
    text = chance.choice(["", "", "-"]) + digits[0]
    if chance.random() < 0.7:
        text += "." + "0" * chance.choice([0, 0, 1, 20]) + digits[1]
    if chance.random() < 0.3:
        text += chance.choice("eE") + chance.choice(["", "+", "-"]) + str(chance.randrange(330))
    return text.encode()


def changed(payload: bytes, chance: Random) -> bytes:
    """The payload with another member or two, before or behind its own: mostly still valid JSON."""
    for _ in range(chance.randint(1, 2)):
        value = number(chance) if chance.random() < 0.3 else chance.choice(VALUES_OF_ALL)
        member = chance.choice(MEMBER_NAMES) + b":" + value
        if chance.random() < 0.5:
            payload = payload.replace(b"{", b"{" + member + b",", 1)
        else:
            payload = b",".join((payload.rstrip()[:-1], member)) + b"}"
    return payload


def damaged(payload: bytes, chance: Random) -> bytes:
    """The payload with a few bytes lost, put in, or doubled."""
    place, size = chance.randint(0, len(payload)), chance.randint(0, 3)
    piece = payload[chance.randint(0, len(payload)) :][: chance.randint(0, 20)]
    piece = chance.choice([b"", piece, chance.choice(PIECES)])
    return payload[:place] + piece + payload[place + size :]


def compare_a_hostile_one(chance: Random) -> Reading[Any, Any]:
    """Compares both ways for one payload of many, and returns the reading. Raises `Refused`."""
    payload, of = USUAL_OF_BOTH, chance.choice([DOMAIN, EVERYTHING])
    for _ in range(chance.randint(1, 2)):
        payload = chance.choice([changed, changed, changed, damaged])(payload, chance)
    assert_same(of, payload)
    return of.validate(TOPIC, payload, 0, LIMITS)
