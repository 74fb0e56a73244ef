"""The time of a reading: any instant with an offset is taken, and all else refused in its own words."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given

from tasks.telemetry import DOMAIN
from tests.payloads import times, written
from tests.unit.tasks.telemetry_readings import GOOD, LIMITS, TOPIC, reading, refusal


@given(pair=times())
@example(pair=("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)))
@example(pair=("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)))
@example(pair=("9999-12-31T23:59:59+23:59", datetime(9999, 12, 31, 0, 0, 59, tzinfo=UTC)))
@example(pair=("2026-05-01T10:00:00.123456789Z", datetime(2026, 5, 1, 10, 0, 0, 123_456, tzinfo=UTC)))
@example(pair=("2026-05-01T10:00:00,5Z", datetime(2026, 5, 1, 10, 0, 0, 500_000, tzinfo=UTC)))
@example(pair=("2026-05-01T10:00:00+0530", datetime(2026, 5, 1, 4, 30, tzinfo=UTC)))
@example(pair=("2026-05-01T10:00:00-05", datetime(2026, 5, 1, 15, tzinfo=UTC)))
@example(pair=("2026-05-01t10:00:00z", datetime(2026, 5, 1, 10, tzinfo=UTC)))
@example(pair=("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)))
def test_times(pair: tuple[str, datetime]) -> None:
    """A time with any offset is the same instant in UTC, to the microsecond."""
    text, instant = pair
    found = reading({"sequence_id": 1, "time": text})
    assert found.time == found.fields.time == instant
    assert found.time.tzinfo is UTC


@pytest.mark.parametrize(
    ("time", "part_of_reason"),
    [
        ("2026-05-01T10:00:00", "must end in Z or a UTC offset"),
        ("2026-05-01T10:00:00.5", "must end in Z or a UTC offset"),
        ("2026-05-01", "ISO 8601"),
        ("yesterday", 'got the string "yesterday"'),
        ("", "ISO 8601"),
        ("1767261600", "ISO 8601"),
        (1767261600, "got the number 1767261600"),
        (1767261600.5, "got the number"),
        (True, "got true"),
        ([], "got an array"),
        ({"$date": 1}, "got an object"),
        ("2026-13-01T10:00:00Z", "must be a time that exists"),
        ("2026-02-29T10:00:00Z", "must be a time that exists"),
        ("2026-05-01T25:00:00Z", "must be a time that exists"),
        ("2026-05-01T10:00:60Z", "must be a time that exists"),
        ("2026-05-01T10:00:00+24:00", "must be a time that exists"),
        ("0000-01-01T00:00:00Z", "must be a time that exists"),
        ("10000-01-01T00:00:00Z", "ISO 8601"),
        ("0001-01-01T00:00:00+01:00", "years 1 to 9999"),
        ("9999-12-31T23:59:59-01:00", "years 1 to 9999"),
        ("2026-05-01x10:00:00Z", "ISO 8601"),
        ("2026-05-01T10:00:00 Z", "ISO 8601"),
        ("2026-W18-5T10:00:00Z", "ISO 8601"),
        ("\uff12026-05-01T10:00:00Z", "must be a time that exists"),
        ("{sentence} {0} %s", "{sentence} {0} %s"),
    ],
)
def test_no_time(time: Any, part_of_reason: str) -> None:
    """A time without an offset, a number, or an instant that does not exist is refused, each in its words."""
    found = refusal({**GOOD, "time": time})
    assert found.error_type == "InvalidTime"
    assert found.reason.startswith("`time` must ")
    assert part_of_reason in found.reason


@pytest.mark.parametrize("timestamp_ms", [-1, -(2**63), 253_402_300_800_000, 2**63 - 1, 10**30])
def test_a_record_without_a_usable_timestamp(timestamp_ms: int) -> None:
    """Where neither the payload nor Kafka knows the time, there is no row."""
    found = refusal({"sequence_id": 1, "time": None}, timestamp_ms=timestamp_ms)
    assert found.error_type == "InvalidTime"
    assert "no `time`" in found.reason
    assert DOMAIN.validate(TOPIC, written(GOOD), timestamp_ms, LIMITS).time.year == 2026
