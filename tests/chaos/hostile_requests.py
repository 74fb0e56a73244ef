"""Hostile MQTT requests, made up and mutated from valid ones, the same for the same seed."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from tests.chaos.hostile import BYTES, LEVELS, TIMES, TOPICS, VALUES, mutated, nested
from tests.integration.samples import SAMPLES

Way = Literal["config", "manage", "rules", "alerts", "telemetry", "topic", "connect"]

RULE_FIELDS = (
    "id", "key", "operator", "threshold", "message", "severity", "for_seconds", "clear_threshold", "domain",
    "threshold_key", "change", "all", "any", "for_readings", "devices", "overrides", "", "rules", "é" * 300,
)  # fmt: skip
COMMAND_FIELDS = ("device_id", "rule_id", "action", "duration_minutes", "note", "", "message")
QUERY_FIELDS = ("id", "limit", "after", "device_id", "silenced", "", "rules")
WORDS = (
    ">", "<", "=<", "absent", "in", "unchanged", "delta", "rate", "check", "SNOOZE", "DISABLE", "ENABLE",
    "ACKNOWLEDGE", "snooze", "temperature", "a.0.b", "0",
    "ticks/x", "packages/x", "a/b/c", "nothing", "telemetry", "ticks", "DeliveryDelay", "PriceCrash", 0.5, 5,
    1e-300, 43_201, -1,
)  # fmt: skip
CLIENT_IDS = (
    b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"x" * 23, b"x" * 5000, b"x" * 65_535, b"a/b/#", b"+", b"$SYS",
    "é".encode(), b"%s%n", b"sluice-gateway", b"sluice-control", b"sluice-notify",
)  # fmt: skip

MOST_BYTES = 1_000_000


class Hostile(NamedTuple):
    """What the account `number` does: a document, a message of the domain `sample`, or a raw packet's parts.

    Of a `topic` the bytes are a topic, and of a `connect` a client id.
    """

    way: Way
    number: int
    payload: bytes
    sample: int = 0
    qos: int = 1
    raw: bytes = b""


def hostile_requests(seed: int, count: int, users: list[str], device: str) -> Iterator[Hostile]:
    """So many requests of these users, each of whom has that device, and rules and commands about it."""
    chance = random.Random(seed)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for position in range(count):
        number = chance.randrange(len(users))
        ways: tuple[Way, ...] = ("config", "manage", "rules", "alerts", "telemetry", "topic", "connect")
        (way,) = chance.choices(ways, (20, 20, 5, 5, 40, 7, 3))
        qos = 0 if chance.random() < 0.1 else 1
        if way == "config":
            yield Hostile(way, number, _written(chance, _rules(chance)), qos=qos)
        elif way == "manage":
            yield Hostile(way, number, _written(chance, _command(chance, device)), qos=qos)
        elif way in {"rules", "alerts"}:
            query: dict[str, Any] = {}
            _alter(chance, query, QUERY_FIELDS)
            yield Hostile(way, number, _written(chance, query), qos=qos)
        elif way == "telemetry":
            sample = chance.randrange(len(SAMPLES))
            document = dict(SAMPLES[sample].make(position, start + timedelta(milliseconds=position)))
            _alter(chance, document, tuple(document))
            yield Hostile(way, number, _written(chance, document), sample=sample)
        elif way == "topic":
            yield Hostile(way, number, chance.randbytes(50), raw=_topic(chance, users[number], device))
        else:
            known = [user.encode() for user in users]
            yield Hostile(way, number, b"", raw=chance.choice((*CLIENT_IDS, *known)))


def _rules(chance: random.Random) -> Any:
    rules = []
    for position in range(chance.choice((0, 1, 1, 2, 5, 101))):
        rule: dict[str, Any] = {
            "id": f"r{position}",
            "key": "temperature",
            "operator": ">",
            "threshold": 30,
            "message": "hot",
        }
        _alter(chance, rule, RULE_FIELDS)
        rules.append(rule)
    if chance.random() < 0.1:
        rules.append(chance.choice(VALUES))
    return chance.choice(
        ({"rules": rules}, {"rules": rules}, rules, {"rules": rules, "\ud800": 1}, {"rule": rules})
    )


def _command(chance: random.Random, device: str) -> dict[str, Any]:
    command: dict[str, Any] = {
        "device_id": device,
        "rule_id": f"r{chance.randrange(3)}",
        "action": chance.choice(("SNOOZE", "DISABLE", "ENABLE", "ACKNOWLEDGE")),
    }
    if command["action"] == "SNOOZE":
        command["duration_minutes"] = 5
    _alter(chance, command, COMMAND_FIELDS)
    return command


def _alter(chance: random.Random, document: dict[str, Any], names: tuple[str, ...]) -> None:
    for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
        document[chance.choice(names)] = chance.choice(chance.choice((VALUES, WORDS, TIMES)))
    if document and chance.random() < 0.1:
        del document[chance.choice(tuple(document))]


def _written(chance: random.Random, document: Any) -> bytes:
    payload = json.dumps(document, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    # After a packet beyond its limit the broker ends the connection, and the client sends the packet again.
    payload = payload[:MOST_BYTES]
    match chance.randrange(12):
        case 0:
            return chance.randbytes(chance.randrange(200))
        case 1:
            return nested(chance, payload)
        case 2 | 3 | 4:
            return mutated(chance, payload)
        case 5 if chance.random() < 0.1:
            # Beyond what a document may have, and up to what the broker lets through.
            return payload.ljust(chance.choice((4096, 262_145, MOST_BYTES)))
    return payload


def _topic(chance: random.Random, user: str, device: str) -> bytes:
    own = f"users/{user}/config", f"users/{user}/alerts/manage"
    topic = chance.choice(
        (
            *own,
            f"users/{user}/devices/{device}/telemetry",
            *(pattern.format(user=user, device=device) for pattern in TOPICS),
            *(f"users/{level}/config" for level in LEVELS),
        )
    ).encode()
    topic = mutated(chance, topic) if chance.random() < 0.5 else topic + chance.choice(BYTES)
    return topic if topic not in {one.encode() for one in own} else topic + b"/x"
