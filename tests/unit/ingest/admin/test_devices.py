"""Devices as `sluice devices` prints them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ingest.admin.devices import as_lines, as_text, span

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DEVICE: dict[str, Any] = {
    "user_id": "u",
    "device_id": "d",
    "domain": "telemetry",
    "first_seen": NOW - timedelta(days=9),
    "last_seen": NOW - timedelta(days=3),
    "own_time": NOW - timedelta(days=3),
    "clock_skew_ms": -1500,
    "refused_at": NOW - timedelta(days=4),
    "refused_type": "InvalidJson",
    "refused_reason": "no JSON",
    "online": None,
    "online_at": None,
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_a_silence_is_in_its_largest_unit(seconds: int, text: str) -> None:
    """Two of a unit at least; a clock that is ahead makes no negative silence."""
    assert span(timedelta(seconds=seconds)) == text


def test_a_line_says_how_long_a_device_is_silent_and_what_was_refused() -> None:
    """On one line each."""
    row = {**DEVICE, "messages_today": 1234, "dead_letters_today": 0}
    (line,) = as_lines([row], NOW)
    assert line == (
        "    3 d  u/d  telemetry  today: readings 1,234, dead letters 0"
        "  last refused 2026-04-27 12:00:00 UTC InvalidJson"
    )
    (never,) = as_lines([{**row, "refused_at": None, "refused_type": None}], NOW)
    assert never.endswith("dead letters 0")


@pytest.mark.parametrize(("online", "shown"), [(False, True), (True, False), (None, False)])
def test_a_device_whose_last_will_came_is_offline(online: bool | None, shown: bool) -> None:
    """The line says for how long, and says nothing of one that is there."""
    at = None if online is None else NOW - timedelta(hours=2)
    row = {**DEVICE, "messages_today": 0, "dead_letters_today": 0, "online": online, "online_at": at}
    assert ("offline for 2 h" in next(as_lines([row], NOW))) is shown
    said = [line for line in as_text({**row, "days": [], "latest": None}, NOW) if "presence" in line]
    assert len(said) == (online is not None)


def test_one_device_is_shown_whole() -> None:
    """Times, clock, last refusal, newest reading, and a line for each day."""
    device = {
        **DEVICE,
        "latest": {"temperature": 20.5},
        "days": [{"day": date(2026, 4, 28), "messages": 7, "dead_letters": 1}],
    }
    assert list(as_text(device, NOW)) == [
        "device      u/d  telemetry",
        "last seen   2026-04-28 12:00:00 UTC, 3 d ago",
        "first seen  2026-04-22 12:00:00 UTC",
        "own time    2026-04-28 12:00:00 UTC of the reading that came last",
        "clock       -1.500 s when it last sent",
        "refused     2026-04-27 12:00:00 UTC  InvalidJson: no JSON",
        "latest      temperature 20.5",
        "2026-04-28  readings 7, dead letters 1",
    ]
