"""The activity of devices: what a part says, and what several parts say together."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tasks.batch.messages import Message
from tasks.devices.activity import DAY_MS, Activity, merged, pack, unpack
from tasks.rows.validate import validate
from tasks.rules.state import to_us
from tasks.telemetry import DOMAIN

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
NOON_MS = to_us(NOON) // 1000
DAY = NOON_MS // DAY_MS


def activity(*sent: tuple[str, int, str]) -> list[Activity]:
    """The activity by readings of a device, each with its arrival after noon in ms and its own time."""
    messages = [
        Message(
            0,
            number,
            NOON_MS + after_ms,
            f"users/u/devices/{device}/telemetry",
            "",
            0,
            json.dumps({"sequence_id": number, "time": f"2026-05-01T{time}Z"}).encode(),
        )
        for number, (device, after_ms, time) in enumerate(sent)
    ]
    readings, dead = validate(DOMAIN, messages)
    assert not dead
    name, found = unpack(pack(DOMAIN.name, readings))
    assert name == DOMAIN.name
    return found


def test_each_device_of_a_part_is_one_line() -> None:
    """Counts, arrivals, the newest own time, and the skew of the last reading, whatever its order."""
    newest_us = to_us(NOON.replace(minute=5))
    assert activity(
        ("a", 0, "12:00:00"), ("b", 1, "12:00:00"), ("a", 7, "12:05:00"), ("a", 9, "12:00:00")
    ) == [
        ("u", "a", DAY, 3, NOON_MS, NOON_MS + 9, newest_us, -9),
        ("u", "b", DAY, 1, NOON_MS + 1, NOON_MS + 1, to_us(NOON), -1),
    ]


def test_a_part_that_reaches_into_the_next_day_counts_for_both() -> None:
    """By the arrival in Kafka, not by the device's clock."""
    found = activity(("a", 0, "12:00:00"), ("a", DAY_MS // 2, "12:00:00"))
    assert [(one.day, one.messages) for one in found] == [(DAY, 1), (DAY + 1, 1)]


def test_a_part_without_readings_says_nothing() -> None:
    """Nothing is kept in Redis for it."""
    assert pack("telemetry", []) == b""


ONE = st.builds(
    lambda device, day, count, first, length, newest, skew: Activity(
        "u", device, day, count, first, first + length, newest, skew
    ),
    *(st.sampled_from("ab"), st.integers(0, 2), st.integers(1, 9), st.integers(0, 99)),
    *(st.integers(0, 9), st.integers(0, 99), st.integers(-9, 9)),
)


@given(st.lists(ONE), st.integers(0, 20))
def test_it_does_not_matter_how_messages_were_parted(parts: list[Activity], at: int) -> None:
    """Merged at once, or in two steps: the same counts, arrivals and times, each device and day once."""
    whole = {one[:7] for one in merged(parts)}
    assert whole == {one[:7] for one in merged([*merged(parts[:at]), *merged(parts[at:])])}
    assert sum(one[3] for one in whole) == sum(one.messages for one in parts)
    assert len({one[:3] for one in whole}) == len(whole)
