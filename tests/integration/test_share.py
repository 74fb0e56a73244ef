"""The alarm about the share of dead letters, on the counters in Redis."""

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tasks import dead_letter_share
from tasks.servers.redis_client import COUNTERS, DEAD_LETTER_SHARE, DEAD_LETTER_TYPES, SHARE_SAMPLES, client


@pytest.fixture(autouse=True)
def _anew(in_process: None) -> None:  # noqa: ARG001 - the servers come first
    client().delete(COUNTERS, DEAD_LETTER_TYPES, SHARE_SAMPLES, DEAD_LETTER_SHARE)


def look(received: int, **dead: int) -> list[EventDict]:
    """Counts so many messages, of which so many became dead letters, and looks; returns what was said."""
    client().hincrby(COUNTERS, "received", received)
    client().hincrby(COUNTERS, "dead_lettered", sum(dead.values()))
    for error_type, count in dead.items():
        client().hincrby(DEAD_LETTER_TYPES, error_type, count)
    with capture_logs() as entries:
        dead_letter_share.watch_share()
    return list(entries)


def test_an_episode_is_told_once_with_what_to_look_at() -> None:
    """Its entry names the most frequent error type; the alarm stays up until the share is low again."""
    assert look(1000) == []
    assert look(1000, InvalidJson=20) == []
    assert not dead_letter_share.is_high()
    (entry,) = look(1000, InvalidJson=30, Unexpected=100)
    assert entry["event"] == "dead_letter_share_high"
    assert (entry["error_types"], entry["dead_letters"]) == (["Unexpected", "InvalidJson"], 150)
    assert "log" in entry["look_at"]
    assert dead_letter_share.is_high()
    assert look(100, InvalidJson=50) == []
    assert [entry["event"] for entry in look(20_000)] == ["dead_letter_share_normal"]
    assert not dead_letter_share.is_high()


def test_a_flushed_redis_raises_no_alarm() -> None:
    """Counters that start again give no share, neither negative nor large."""
    look(1000)
    look(1000, Unexpected=15)
    client().delete(COUNTERS)
    assert look(100, Unexpected=60) == []
    assert not dead_letter_share.is_high()
    assert [entry["event"] for entry in look(100, Unexpected=60)] == ["dead_letter_share_high"]
