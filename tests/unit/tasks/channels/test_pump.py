"""Channels are sent to at once, whichever hangs, and attempts are marked, whatever the database does."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tasks.channels import attempt, pump, quiet, tables
from tasks.channels.claim import Claim
from tasks.channels.outcome import Later, Outcome, Sent
from tasks.servers import database


@dataclass
class Rows:
    """The deliveries that wait, and those that are marked; the database fails `failing` times first."""

    waiting: list[str] = field(default_factory=list)
    marked: dict[str, Outcome] = field(default_factory=dict)
    failing: int = 0
    claim_fails: bool = False

    def claim(self, _connection: Any, _holder: UUID, most: int) -> list[Claim]:
        """The next ones."""
        if self.claim_fails:
            raise psycopg.OperationalError
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return [Claim(1, 2, "u", name, "webhook", "t", "s", None, 1, 0, {}) for name in taken]

    def finish(self, _connection: Any, done: Claim, outcome: Outcome, _holder: UUID) -> str:
        """Marks one."""
        if self.failing:
            self.failing -= 1
            raise psycopg.OperationalError
        self.marked[done.name] = outcome
        return "sent" if outcome == Sent() else "waiting"


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """In place of the tables; looks follow fast."""
    rows = Rows()
    monkeypatch.setattr(database, "access", lambda: nullcontext(None))
    monkeypatch.setattr(quiet, "settle", lambda _connection: None)
    monkeypatch.setattr(tables, "claim", rows.claim)
    monkeypatch.setattr(tables, "finish", rows.finish)
    monkeypatch.setattr(pump, "LOOK_SECONDS", 0.02)
    return rows


@pytest.fixture
def ending() -> Iterator[threading.Event]:
    """Set at the end of the test, so that nothing hangs after it."""
    event = threading.Event()
    yield event
    event.set()


def telling(monkeypatch: pytest.MonkeyPatch, tell: Callable[[str], object]) -> None:
    """The effect of an attempt at a channel of this name."""

    def told(claim: Claim) -> Outcome:
        tell(claim.name)
        return Sent()

    monkeypatch.setattr(attempt, "attempt", told)


def no_more() -> None:
    """Nobody else takes what is due."""


def test_a_channel_that_hangs_does_not_end_the_claims(
    rows: Rows, ending: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a run takes on its own: what becomes due is sent before the other one is done."""
    told: list[str] = []

    def tell(name: str) -> None:
        if name == "hangs":
            ending.wait(5)
        told.append(name)
        if name == "well":
            ending.set()

    def later() -> None:
        time.sleep(0.3)
        rows.waiting.append("well")

    telling(monkeypatch, tell)
    rows.waiting = ["hangs"]
    thread = threading.Thread(target=later)
    thread.start()
    assert pump.run(no_more, seconds=0.1) == {"sent": 2}
    thread.join()
    assert told == ["well", "hangs"]


def test_a_run_hands_over_before_it_waits_for_the_last_ones(
    rows: Rows, ending: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker then takes what is due; this one ends, so that it can be stopped."""
    monkeypatch.setattr(pump, "MOST_SECONDS", 0.2)
    telling(monkeypatch, lambda _: ending.wait(5))
    rows.waiting = ["hangs"]

    def hand_over() -> None:
        rows.waiting = ["of another"]
        ending.set()

    assert pump.run(hand_over, seconds=0.1) == {"sent": 1}
    assert rows.waiting == ["of another"]


def test_an_attempt_that_never_ends_is_left(
    rows: Rows, ending: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its lease is over it is marked as one without an answer, and the run ends without it."""
    monkeypatch.setattr(pump, "PATIENCE_SECONDS", 0.2)
    telling(monkeypatch, lambda _: ending.wait(30))
    rows.waiting = ["hangs"]
    began = time.monotonic()
    assert pump.run(no_more, seconds=0.1) == {"waiting": 1}
    assert time.monotonic() - began < 10
    assert rows.marked == {"hangs": Later("no answer in time")}


def test_threads_that_were_left_take_no_more_channels(
    rows: Rows, ending: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery is claimed only where a thread is free for it: it does not wait in its lease."""
    monkeypatch.setattr(pump, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(pump, "CHANNELS_AT_ONCE", 2)
    telling(monkeypatch, lambda _: ending.wait(30))
    rows.waiting = ["one", "two", "three"]
    assert pump.run(no_more, seconds=0.5) == {"waiting": 2}
    assert rows.waiting == ["three"]


def test_what_was_told_is_marked_when_the_database_is_back(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the database throws no outcome away: neither this one nor those of the others."""
    telling(monkeypatch, lambda _: None)
    rows.waiting = [f"c{number}" for number in range(10)]
    rows.failing = 5
    assert pump.run(no_more, seconds=0.1) == {"sent": 10}
    assert len(rows.marked) == 10


def test_outcomes_are_not_kept_beyond_the_lease(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then another one may have it: a database that stays away does not hold up the worker."""
    monkeypatch.setattr(tables, "LEASE_SECONDS", 0.2)
    telling(monkeypatch, lambda _: None)
    rows.waiting, rows.failing = ["one"], 1_000_000
    assert pump.run(no_more, seconds=0.05) == {}


def test_a_claim_that_fails_ends_the_claims_alone(
    rows: Rows, ending: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts under way are awaited and marked."""

    def tell(_name: str) -> None:
        rows.claim_fails = True
        ending.wait(0.2)

    telling(monkeypatch, tell)
    rows.waiting = ["one"]
    assert pump.run(no_more, seconds=5) == {"sent": 1}
