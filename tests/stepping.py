"""The state machine over several readings, as the tests need it."""

from collections.abc import Iterable

from tasks.rules.change import Change
from tasks.rules.machine import Observation, step
from tasks.rules.rule import RuleSet
from tasks.rules.state import DeviceState


def step_all(
    state: DeviceState, rules: RuleSet, readings: Iterable[Observation]
) -> tuple[DeviceState, list[Change]]:
    """Judges readings of one device, in their order."""
    changes: list[Change] = []
    for reading in readings:
        state, more = step(state, rules, reading)
        changes += more
    return state, changes
