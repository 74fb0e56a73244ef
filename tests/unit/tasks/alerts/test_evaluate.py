"""The evaluation's loop over a device's readings: quicker than the machine alone, and never different."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasks.alerts import machine
from tasks.alerts.evaluate import Judged, _look_at, _observation, _step
from tasks.alerts.state import DeviceState
from tasks.batch import Message
from tasks.domain import Source
from tasks.payload import Limits
from tasks.rules import parse_rules
from tasks.telemetry import DOMAIN
from tests.payloads import written

TOPIC = "users/u/devices/d/telemetry"
RULES = parse_rules(
    [
        {"id": "hot", "key": "heat", "operator": ">", "threshold": 2, "clear_threshold": 1, "message": "m"},
        {"id": "slow", "key": "heat", "operator": "<", "threshold": 1, "for_seconds": 20, "message": "m"},
        {"id": "gone", "operator": "absent", "for_seconds": 60, "message": "m"},
    ]
)
VALUES = st.sampled_from([0, 1, 2, 3, 1.5, None, "3", True])


def judged(number: int, second: int, value: Any) -> Judged:
    """A reading of the device."""
    payload = written({"sequence_id": number, "time": f"2026-05-01T10:00:{second:02}Z", "heat": value})
    message = Message(0, number, 1_777_629_600_000 + 1000 * number, TOPIC, "", 0, payload)
    return Judged(message, DOMAIN.validate(TOPIC, payload, 0, Limits()))


@given(st.lists(st.tuples(st.integers(0, 59), VALUES), max_size=30))
def test_what_is_passed_over_would_have_changed_nothing(readings: list[tuple[int, Any]]) -> None:
    """State and changes are the machine's own, also when the same looks are stepped through again."""
    all_judged = [judged(number, second, value) for number, (second, value) in enumerate(readings)]
    start = DeviceState("u", "d")
    wanted, changes = machine.step_all(start, RULES, [_observation(one, {}) for one in all_judged])
    looks = {Source("u", "d"): _look_at(DOMAIN, RULES, all_judged)}
    for _ in range(2):
        assert _step(start, {"u": RULES}, looks) == (wanted, tuple(changes))
