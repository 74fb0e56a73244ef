"""The examples of the page of rules: a rule, and what happens to one device under it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ingest.admin.rulesets.rules_rehearsal import Life
from tasks.rules.change import Change
from tasks.rules.machine import Observation
from tasks.rules.parsing import parse_rules
from tasks.rules.state import to_us

START = datetime(2026, 5, 1, 10, tzinfo=UTC)
USER, DEVICE = "ada", "fridge"

Event = tuple[int, dict[str, Any] | None]
"""Seconds since the start, and the payload of a reading; without one it is a look of the clock."""


class Example(NamedTuple):
    """A rule, and what happens to one device."""

    title: str
    rule: dict[str, Any]
    events: tuple[Event, ...]


EXAMPLES = (
    Example(
        "A fridge that is too warm for more than a moment. It is cold again below 7, not at 8",
        {
            "key": "temperature",
            "operator": ">",
            "threshold": 8,
            "clear_threshold": 7,
            "for_seconds": 60,
            "message": "too warm",
            "severity": "critical",
        },
        tuple((30 * n, {"temperature": t}) for n, t in enumerate((9, 9.5, 9.2, 7.5, 6.9))),
    ),
    Example(
        "A warning that becomes critical, once, and stays so to its end",
        {
            "id": "oven",
            "key": "temperature",
            "operator": ">",
            "threshold": 80,
            "severity": "warning",
            "escalate": [{"severity": "critical", "threshold": 95}],
            "message": "the oven is too hot",
        },
        tuple((10 * n, {"temperature": t}) for n, t in enumerate((85, 97, 88, 99, 70))),
    ),
    Example(
        "An alert that comes and goes is published as one, until it is calm",
        {
            "id": "gate",
            "key": "pressure",
            "operator": "<",
            "threshold": 2,
            "flapping": {"changes": 4, "minutes": 10},
            "message": "the pressure is low",
        },
        (
            *((30 * n, {"pressure": p}) for n, p in enumerate((1.8, 2.1, 1.9, 2.2, 1.7, 2.3, 1.8, 2.4))),
            (900, None),
            (1000, {"pressure": 1.5}),
        ),
    ),
    Example(
        "A value inside an object and an array, under a name of its own",
        {
            "id": "phase-1",
            "key": "motor.phases.0",
            "operator": "<",
            "threshold": 210,
            "message": "undervoltage",
        },
        ((0, {"motor": {"phases": [229, 231]}}), (10, {"motor": {"phases": [205, 230]}})),
    ),
    Example(
        "A name with dots, inside an object",
        {"id": "meter", "key": 'meter."1.8.0"', "operator": ">", "threshold": 100, "message": "much used"},
        ((0, {"meter": {"1.8.0": 99.5}}), (10, {"meter": {"1.8.0": 123.4}})),
    ),
    Example(
        "A code that means trouble",
        {"key": "error_code", "operator": "!=", "threshold": 0, "message": "the device reports an error"},
        ((0, {"error_code": 0}), (10, {"error_code": 17}), (20, {"error_code": 0})),
    ),
    Example(
        "Frost, but only while the door is open. The rule needs an `id`, and its alert has `values`",
        {
            "id": "frost",
            "all": [
                {"key": "temperature", "operator": "<", "threshold": 0},
                {"key": "door", "operator": "==", "threshold": "open"},
            ],
            "message": "the room freezes",
        },
        (
            (0, {"temperature": -2, "door": "closed"}),
            (10, {"temperature": -2, "door": "open"}),
            (20, {"temperature": -2}),
            (30, {"temperature": 1}),
        ),
    ),
    Example(
        "One of two limits. `values` shows which",
        {
            "id": "climate",
            "any": [
                {"key": "temperature", "operator": ">", "threshold": 30},
                {"key": "humidity", "operator": ">=", "threshold": 85},
            ],
            "message": "too warm or too damp",
        },
        (
            (0, {"temperature": 22, "humidity": 60}),
            (10, {"temperature": 22, "humidity": 85}),
            (20, {"temperature": 31, "humidity": 70}),
            (30, {"temperature": 22}),
            (40, {"temperature": 22, "humidity": 70}),
        ),
    ),
    Example(
        "A boolean. A number would never equal it",
        {"key": "water_leak", "operator": "==", "threshold": True, "message": "a leak"},
        ((0, {"water_leak": False}), (10, {"water_leak": True}), (20, {"water_leak": False})),
    ),
    Example(
        "One of several words",
        {"key": "mode", "operator": "in", "threshold": ["error", "halt"], "message": "not running"},
        ((0, {"mode": "run"}), (10, {"mode": "halt"}), (20, {"mode": "run"})),
    ),
    Example(
        "Two values of a reading, compared with each other",
        {"key": "inside", "operator": ">", "threshold_key": "outside", "message": "open a window"},
        ((0, {"inside": 24, "outside": 28}), (10, {"inside": 24, "outside": 19})),
    ),
    Example(
        "A sudden change: by more than 5 since the reading before",
        {
            "id": "jump",
            "key": "level",
            "change": "delta",
            "operator": ">",
            "threshold": 5,
            "message": "a jump",
        },
        ((0, {"level": 20}), (60, {"level": 24}), (120, {"level": 30}), (180, {"level": 31})),
    ),
    Example(
        "A fast change: by more than 2 per minute, however often readings come",
        {
            "id": "fast",
            "key": "level",
            "change": "rate",
            "operator": ">",
            "threshold": 2,
            "message": "rising",
        },
        ((0, {"level": 20}), (60, {"level": 21}), (90, {"level": 22.5}), (150, {"level": 23})),
    ),
    Example(
        "A sensor that is stuck",
        {"key": "flow", "operator": "unchanged", "for_seconds": 600, "message": "the sensor is stuck"},
        ((0, {"flow": 7.1}), (300, {"flow": 7.1}), (600, {"flow": 7.1}), (900, {"flow": 7.3})),
    ),
    Example(
        "Three readings in a row, so that a single odd one raises no alarm",
        {"key": "rssi", "operator": "<", "threshold": -90, "for_readings": 3, "message": "weak signal"},
        tuple((10 * n, {"rssi": value}) for n, value in enumerate((-95, -60, -95, -96, -97))),
    ),
    Example(
        "A door that is left open. It sends only changes, so the clock counts on while nothing comes",
        {
            "id": "door",
            "key": "door",
            "operator": "==",
            "threshold": "open",
            "for_seconds": 300,
            "message": "the door is left open",
        },
        ((0, {"door": "open"}), (301, None), (420, {"door": "closed"})),
    ),
    Example(
        "A device that is silent",
        {"operator": "absent", "for_seconds": 300, "message": "nothing for five minutes"},
        ((0, {"temperature": 4}), (301, None), (600, {"temperature": 4})),
    ),
    Example(
        "A device that goes on sending, but without one of its values",
        {
            "id": "no-battery",
            "key": "battery",
            "operator": "absent",
            "for_seconds": 300,
            "message": "no battery level for five minutes",
        },
        (
            (0, {"temperature": 4, "battery": 81}),
            (200, {"temperature": 4}),
            (301, None),
            (400, {"temperature": 4, "battery": 80}),
        ),
    ),
)


def changes_of(example: Example) -> Iterator[tuple[Event, list[Change]]]:
    """Each event with the changes that it makes."""
    life = Life(parse_rules([example.rule]), USER, DEVICE)
    for number, (second, payload) in enumerate(example.events):
        before = len(life.changes)
        time = START + timedelta(seconds=second)
        at_ms = to_us(time) // 1000
        if payload is None:
            life.wait(at_ms)
        else:
            life.hear(Observation(0, number, at_ms, time, number, payload))
        yield (second, payload), life.changes[before:]
