"""A time that is stored as an extra is hinted at, once an hour and device."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from tasks.batch.messages import Message
from tasks.rows import hints
from tasks.rows.validate import validate
from tasks.telemetry import DOMAIN
from tests.payloads import written


def given(document: dict[str, Any], device: str = "d", count: int = 1) -> list[str]:
    """The hints at readings of a device."""
    topic = f"users/u/devices/{device}/telemetry"
    sent = [
        Message(0, number, 1_795_168_800_000, topic, "", 0, written({"sequence_id": number, **document}))
        for number in range(count)
    ]
    with capture_logs() as logged:
        hints.give(DOMAIN, validate(DOMAIN, sent).readings)
    return [str(one["hint"]) for one in logged if one["event"] == "time_kept_as_extra"]


@pytest.fixture(autouse=True)
def nothing_given() -> None:
    """Each test is an hour of its own."""
    hints._given.clear()


@pytest.mark.parametrize("name", ["ts", "timestamp", "Time", "last_seen"])
def test_what_looks_like_a_time_is_named(name: str) -> None:
    """With what the time is called."""
    assert given({name: 1795820053506}) == [
        f"`{name}` looks like a time, and is stored as an extra: the time is `time`"
    ]


def test_a_reading_with_a_time_or_without_any_is_as_it_should_be() -> None:
    """Nothing is said of it."""
    assert given({"time": "2026-11-20T10:00:00Z", "ts": 1}) == []
    assert given({"temperature": 1}) == []


def test_each_device_is_named_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it sends; and as many devices are remembered as there may be."""
    assert len(given({"ts": 1}, count=500)) == 1
    assert given({"ts": 1}, count=5) == []
    assert len(given({"ts": 1}, "other")) == 1
    monkeypatch.setattr(hints, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(hints, "MOST_DEVICES", 2)
    assert [len(given({"ts": 1}, device)) for device in ("a", "b", "c")] == [1, 1, 1]
    assert len(hints._given) == 2
