"""Refusals by device, from the records of the topic of dead letters."""

from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Message as Record

from tasks.dead_letters import envelope
from tasks.devices.activity import MOST_MS
from tasks.devices.refusals import MOST_LETTERS, MOST_REASON, by_device, new
from tasks.telemetry import DOMAIN

DAY_MS = 86_400_000


def record(device: str, at_ms: int, error_type: str = "InvalidJson", reason: str = "no JSON") -> Record:
    """A letter about a message of the device that came at that time."""
    value = envelope.envelope(
        f"users/u/devices/{device}/telemetry",
        b"x",
        error_type,
        reason,
        kafka_topic="iot-stream",
        kafka_partition=0,
        kafka_offset=1,
        kafka_timestamp_ms=at_ms,
    )
    # A broker's record; the class takes these arguments since 2.11, which its stubs lack.
    made: Any = Record
    one: Record = made(topic="iot-stream-dlq", partition=0, offset=0, key=b"k", value=value, timestamp=(1, 9))
    return one


def test_the_last_refusal_counts_as_such_and_all_are_counted_by_day() -> None:
    """By the arrival of the message that was refused."""
    (one,) = by_device(DOMAIN, [record("d", 5), record("d", DAY_MS), record("d", 7, "Conflict", "other")])
    assert one[:4] == ("u", "d", 5, DAY_MS)
    assert one[5:] == ("Conflict", "other", {0: 2, 1: 1})
    assert (datetime.now(UTC) - one.refused_at).total_seconds() < 60


def test_a_letter_that_names_no_device_is_left_out() -> None:
    """Nobody can be blamed for a topic that no device has."""
    assert by_device(DOMAIN, [record("d/e", 5), record("", 5)]) == []


def test_a_reason_is_storable() -> None:
    """Whatever the device has sent stands in it."""
    (one,) = by_device(DOMAIN, [record("d", 5, reason="\0\ud800" + "x" * 2000)])
    assert "\0" not in one.reason
    assert len(one.reason.encode()) <= MOST_REASON + 4


def test_only_what_is_new_is_read() -> None:
    """From where the last look ended, bounded; from the beginning where the topic is another one."""
    assert new((3, 10), None) == (3, 10)
    assert new((3, 10), 5) == (5, 10)
    assert new((3, 10), 10) == (10, 10)
    assert new((8, 10), 5) == (8, 10)
    assert new((0, 4), 5) == (0, 4)
    assert new((0, 10**6), None) == (0, MOST_LETTERS)


def test_a_time_that_no_table_takes_is_the_nearest_that_one_does() -> None:
    """Records of other producers have any time; the registry must not stop because of one."""
    (one,) = by_device(DOMAIN, [record("d", -1), record("d", 2**62)])
    assert (one.first_ms, one.last_ms) == (0, MOST_MS)
    assert sum(one.days.values()) == 2
