"""How much is judged in one go: each user's readings up to a bound, and always some."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.alerts.budget import CHANGE_BYTES, COMMIT_BYTES, Budget
from tasks.alerts.stepping import Stepping, check_readings
from tasks.domain.domain import Source
from tasks.rules.model import MAX_COMPARISONS, MAX_LISTED, MAX_TEXT
from tasks.rules.parsing import parse_rules
from tasks.rules.state import DeviceState
from tasks.telemetry import DOMAIN
from tests.unit.tasks.alerts.flipping import RULES, flipping


def step(budget: Budget, devices: dict[str, int]) -> dict[str, int]:
    """How many changes each device makes, with so many flipping readings."""
    checked = {
        Source("u", name): check_readings(DOMAIN, RULES, flipping(name, n)) for name, n in devices.items()
    }
    stepping = Stepping(DOMAIN, checked, {}, {}, budget)
    return {name: len(stepping.step(DeviceState("u", name))[1]) for name in devices}


@given(st.integers(1, 12), st.integers(1, 20))
def test_a_user_is_stopped_at_the_bound(room: int, count: int) -> None:
    """Judged and left readings together are all readings, and the first one is always judged."""
    budget = Budget(room * CHANGE_BYTES)
    made = step(budget, {"a": count, "b": count})
    assert 1 <= made["a"] <= room
    assert made["a"] + made["b"] == min(room, 2 * count)
    assert made == {name: budget.stopped.get(Source("u", name), count) for name in ("a", "b")}
    # Another writer was there first: the same once more.
    assert step(budget, {"a": count, "b": count}) == made


@given(st.integers(1, 6), st.integers(1, 6))
def test_a_user_at_the_bound_stops_nobody_else(loud: int, quiet: int) -> None:
    """In one part, whoever comes first: only the readings of the loud one are left for later."""
    counts = {Source("loud", "a"): loud + 6, Source("quiet", "b"): quiet, Source("loud", "c"): loud}
    checked = {
        one: check_readings(DOMAIN, RULES, flipping(one.device_id, n, one.user_id))
        for one, n in counts.items()
    }
    budget = Budget(6 * CHANGE_BYTES)
    stepping = Stepping(DOMAIN, checked, {}, {}, budget)
    made = {one: len(stepping.step(DeviceState(*one))[1]) for one in counts}
    assert made[Source("quiet", "b")] == quiet
    assert budget.stopped == {Source("loud", "a"): made[Source("loud", "a")], Source("loud", "c"): 0}


KEYS = tuple(f"k{number}" for number in range(MAX_COMPARISONS))
LONG = "x" * MAX_TEXT
LISTED = {"key": "k0", "operator": "in", "threshold": [LONG, *(f"{n:x<256}" for n in range(MAX_LISTED - 1))]}


@pytest.mark.parametrize(
    "rule", [LISTED, {"all": [{"key": key, "operator": "==", "threshold": LONG} for key in KEYS]}]
)
def test_long_thresholds_and_values_count(rule: dict[str, Any]) -> None:
    """Each change has them, twice in the outbox, and the state once more."""
    rules = parse_rules([{"id": "long", "message": "m", **rule}])
    room = 100_000
    budget = Budget(room)
    readings = flipping("d", 31, high=LONG, low="y" * MAX_TEXT, keys=KEYS)
    checked = {Source("u", "d"): check_readings(DOMAIN, rules, readings)}
    stepping = Stepping(DOMAIN, checked, {}, {}, budget)
    state, changes = stepping.step(DeviceState("u", "d"))
    sizes = [2 * len(change.to_json()) for change in changes]
    assert sum(sizes[:-1]) < room
    assert budget._size >= sum(sizes) + len(state.pack())


def test_a_commit_has_room_for_so_many_bytes() -> None:
    """Devices for which it has none are not done, and go with the next commit."""
    budget = Budget(1 << 40)
    for name in ("a", "b", "c"):
        assert budget.begin(Source("u", name)) == (name != "c")
        for _ in range(COMMIT_BYTES // CHANGE_BYTES if name == "b" else 1):
            budget._size += CHANGE_BYTES
    assert budget.committed() == {Source("u", "a"), Source("u", "b")}
    assert budget.begin(Source("u", "c"))
