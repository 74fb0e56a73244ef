"""Random lives of a device whose memory is in Redis: judged as if a worker had never forgotten anything."""

from typing import Any

import pytest
from hypothesis import given

from tests.unit.tasks.alerts.stored_device import StoredDevice
from tests.unit.tasks.rules.kept_lives import KeptLife
from tests.unit.tasks.rules.lives import (
    AGAIN,
    CLOCK,
    COMMANDS,
    FLIPS,
    LONG_CLOCK,
    READINGS,
    REDELIVERED,
    REPEATED,
    REPEATED_COMMANDS,
    RULES,
    Event,
    lives,
    rule_sets,
    told,
    well_formed,
)

ABOVE = {"id": "r1", "message": "m", "key": "a", "operator": ">", "threshold": 1}
FLAPS = ABOVE | {"flapping": {"changes": 2, "minutes": 3}}
SAME_MOMENT: list[Event] = [
    ("reading", 0, 0, {"a": 3}),
    ("reading", 0, 0, {"a": 0}),
    ("reading", 0, 0, {}),
    ("repeated", 0, 0, {"a": 3}),
]
# A device whose readings are under way for five minutes longer than before.
LATER_UNDER_WAY: list[Event] = [
    ("reading", 0, 0, {"a": 3}),
    ("reading", 1, 0, {"a": 0}),
    ("reading", 300, -300, {}),
    ("clock", 10, 400),
    ("reading", 5, -300, {"a": 3}),
]
# Its clock was ahead, and was set right.
SET_RIGHT: list[Event] = [
    ("reading", 0, 5000, {"a": 3}),
    ("reading", 60, 0, {"a": 0}),
    ("reading", 60, 0, {}),
    ("redelivered", 5, 1),
    ("reading", 5, -20, {"a": 3}),
]

# Nothing is compared for a while, in which only a late reading comes.
NOT_COMPARED: list[Event] = [
    ("reading", 0, 0, {"a": 0}),
    ("rules", [], False),
    ("redelivered", 10, 1),
    ("rules", [{"id": "r1", "message": "m", "key": "a", "operator": "unchanged"}], True),
    ("reading", 10, 0, {"a": 0}),
]


def _live(rules: list[dict[str, Any]], events: list[Event]) -> list[str]:
    life = KeptLife(rules, StoredDevice())
    life.live(events)
    told(life.device.changes, life.judged)
    well_formed(life.device.changes)
    return [change.status for change in life.device.changes]


@pytest.mark.parametrize(
    ("rule", "events", "statuses"),
    [
        (ABOVE, SAME_MOMENT, ["TRIGGERED", "RESOLVED"]),
        (FLAPS, LATER_UNDER_WAY, ["TRIGGERED", "RESOLVED", "FLAPPING"]),
        (ABOVE, SET_RIGHT, ["TRIGGERED", "RESOLVED"]),
        (ABOVE | {"change": "delta"}, NOT_COMPARED, ["TRIGGERED"]),
    ],
)
def test_what_was_forgotten_once(rule: dict[str, Any], events: list[Event], statuses: list[str]) -> None:
    """A key of the newest moment, how long a reading was under way, and what came after a clock was set."""
    assert _live([rule], events) == statuses


def test_a_batch_that_runs_again_judges_no_repeated_reading() -> None:
    """At first its key was known; then a newer reading took its place."""
    device = StoredDevice(ABOVE)
    assert device.send({"a": 0}, 0) == []
    repeated = device.reading({"a": 3}, 0, key=1)
    batch = repeated, device.reading({"a": 0}, 1)
    assert device.judge(*batch) == []
    assert device.judge(*batch) == []


@given(
    rule_sets() | rule_sets(remembering=False, flapping=True),
    lives(
        *(READINGS, READINGS, READINGS, FLIPS, REPEATED, REDELIVERED),
        *(COMMANDS, REPEATED_COMMANDS, RULES, CLOCK, LONG_CLOCK, AGAIN),
    ),
)
def test_any_life_is_told_as_the_plain_model_tells_it(
    rules: list[dict[str, Any]], events: list[Event]
) -> None:
    """Late, repeated and redelivered readings, and rules that remember: nothing is kept but in Redis."""
    _live(rules, events)
