"""States of alerts of one rule, and readings for it."""

from datetime import UTC, datetime, timedelta

from tasks.rules.machine import Changes, Observation
from tasks.rules.parsing import parse_rules
from tasks.rules.state import DeviceState
from tests.stepping import step_all

HOT = parse_rules({"rules": [{"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}]})
START = datetime(2026, 5, 1, 10, tzinfo=UTC)


def reading(offset: int, temperature: float) -> Observation:
    """A reading a second after the one before it."""
    time = START + timedelta(seconds=offset)
    return Observation(0, offset, int(time.timestamp() * 1000), time, offset, {"temperature": temperature})


def judge(state: DeviceState, *readings: Observation) -> tuple[DeviceState, Changes]:
    """The state machine over the readings."""
    after, changes = step_all(state, HOT, readings)
    return after, tuple(changes)
