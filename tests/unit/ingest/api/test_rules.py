"""A rehearsal ends in time, and says how to ask for less."""

from datetime import UTC, datetime

import pytest

from ingest.api.problems import Refused
from ingest.api.routes import rules
from tasks.rules.machine import Observation

READING = ("d", Observation(0, 0, 0, datetime(2026, 5, 1, tzinfo=UTC), 0, {}))


def test_as_many_readings_as_are_allowed_pass() -> None:
    """And one more is refused, with what to do."""
    most = rules.MOST_READINGS
    assert sum(1 for _ in rules.bounded([READING] * most)) == most
    with pytest.raises(Refused, match="later `since`, or one `device`") as refused:
        list(rules.bounded([READING] * (most + 1)))
    assert refused.value.status == 422


def test_a_rehearsal_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a query is that takes too long."""
    monkeypatch.setattr(rules, "REHEARSE_SECONDS", -1.0)
    with pytest.raises(Refused, match="Ask for less") as refused:
        list(rules.bounded([READING]))
    assert refused.value.status == 504
