"""Telemetry as the tests of its validation send it."""

from typing import Any, get_args

import pytest

from tasks.domain.declaration import Reading
from tasks.domain.domain import Source
from tasks.domain.payload import ErrorType, Limits, Refused
from tasks.telemetry import DOMAIN, Telemetry
from tests.payloads import written

LIMITS = Limits()
TOPIC = "users/ann/devices/d1/telemetry"
GOOD: dict[str, Any] = {"sequence_id": 17, "time": "2026-05-01T10:00:00Z", "temperature": 21.5, "battery": 93}


def reading(document: dict[str, Any], timestamp_ms: int = 0) -> Reading[Source, Telemetry]:
    """The document as a reading."""
    return DOMAIN.validate(TOPIC, written(document), timestamp_ms, LIMITS)


def refusal(document: dict[str, Any] | bytes, topic: str = TOPIC, timestamp_ms: int = 0) -> Refused:
    """Why the document is refused."""
    payload = document if isinstance(document, bytes) else written(document)
    with pytest.raises(Refused) as caught:
        DOMAIN.validate(topic, payload, timestamp_ms, LIMITS)
    assert caught.value.error_type in get_args(ErrorType)
    assert 0 < len(caught.value.reason) <= 300
    assert caught.value.reason.isprintable()
    return caught.value


def outcome(topic: str, payload: bytes) -> bytes | str:
    """The row's line, or the type of error."""
    try:
        return DOMAIN.validate(topic, payload, 0, LIMITS).copy_line
    except Refused as refused:
        return refused.error_type
