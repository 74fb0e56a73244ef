"""Readings that flip an alert with every one of them."""

from typing import Any

from tasks.batch.messages import Message
from tasks.domain.payload import Limits
from tasks.rows.validate import Received
from tasks.rules.parsing import parse_rules
from tasks.telemetry import DOMAIN
from tests.payloads import written

RULES = parse_rules([{"id": "hot", "key": "heat", "operator": ">", "threshold": 2, "message": "m"}])


def flipping(
    device: str, count: int, user: str = "u", high: Any = 3, low: Any = 0, keys: tuple[str, ...] = ("heat",)
) -> list[Received]:
    """Readings of which each triggers or resolves an alert."""
    topic, found = f"users/{user}/devices/{device}/telemetry", []
    for number in range(count):
        values: dict[str, Any] = {
            "sequence_id": number,
            "time": f"2026-05-01T10:{number:02}:00Z",
            **dict.fromkeys(keys, low if number % 2 else high),
        }
        payload = written(values)
        at_ms = 1_777_629_600_000 + 60_000 * number
        reading = DOMAIN.validate(topic, payload, at_ms, Limits())
        found.append(Received(Message(0, number, at_ms, topic, "", 0, payload), reading))
    return found
