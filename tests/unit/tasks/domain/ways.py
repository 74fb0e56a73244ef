"""Both ways of validating a message, side by side."""

from datetime import UTC, datetime
from typing import Any

from tasks.domain import Domain, Record
from tasks.domain.domain import AnyDomain
from tasks.domain.fast import fast_way
from tasks.domain.payload import Limits, Refused

LIMITS = Limits(max_bytes=4096, max_depth=8)
TOPIC = "users/ann/devices/d1/telemetry"
USUAL = b'{"sequence_id":17,"time":"2026-05-01T10:00:00.25Z","temperature":21.5,"battery":93,"ok":true}'


def domain(record: type[Record], kind: type[AnyDomain] = Domain, **more: Any) -> AnyDomain:
    """A domain of this record."""
    return kind(
        record,
        name="things",
        namespace="things",
        topic="users/{user_id}/devices/{device_id}/telemetry",
        owner="{user_id}",
        source="{device_id}",
        table="some_table",
        primary_key=("at" if "at" in record.model_fields else "time", "user_id", "device_id"),
        time="at" if "at" in record.model_fields else "time",
        **more,
    )


def outcome(way: Any, topic: str, payload: bytes, timestamp_ms: int, limits: Limits) -> Any:
    """The reading, with what its record was given; or the refusal; or None."""
    try:
        reading = way(topic, payload, timestamp_ms, limits)
    except Refused as refused:
        return refused.error_type, refused.reason
    if reading is None:
        return None
    fields = reading.fields
    assert type(reading.time) is datetime
    assert reading.time.tzinfo is UTC
    alike = reading._replace(made=Record)
    assert reading.values is fields.__dict__
    return (
        alike,
        fields,
        # 1 == 1.0 == True, and 0.0 == -0.0, but not as text; the order of members counts as well.
        repr(alike),
        repr(fields.__dict__),
        fields.model_fields_set,
        fields.model_extra,
        reading.copy_line,
        hash(fields),
    )


def assert_same(
    of: AnyDomain, payload: bytes, topic: str = TOPIC, timestamp_ms: int = 1_700_000_000_123
) -> bool:
    """Compares both ways; returns whether the fast way knew."""
    found = outcome(fast_way(of), topic, payload, timestamp_ms, LIMITS)
    expected = outcome(of.validate, topic, payload, timestamp_ms, LIMITS)
    assert found is None or found == expected
    return found is not None
