"""The circuit breaker as one process knows it, while Redis is away."""

from typing import Any

import psycopg
import pytest
import redis

from tasks.servers import breaker as module
from tasks.servers.breaker import FAILURES, FIRST_SECONDS, MOST_SECONDS, Breaker, CircuitOpen
from tasks.servers.database import _meaning_of, is_away


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds since some time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The breaker's clock; and no Redis."""

    def away() -> Any:
        raise redis.ConnectionError("gone")

    clock = Clock()
    monkeypatch.setattr(module, "client", away)
    monkeypatch.setattr("circuitbreaker.monotonic", clock)
    return clock


def use(breaker: Breaker, error: Exception | None = None) -> bool:
    """One access that fails with the error, or works; returns whether it was tried at all."""
    try:
        breaker.__enter__()
    except CircuitOpen:
        return False
    breaker.__exit__(type(error) if error else None, error, None)
    return True


def away() -> psycopg.Error:
    """The exception that psycopg raises when nobody answers."""
    return psycopg.OperationalError("connection refused")


@pytest.mark.usefixtures("clock")
def test_five_failures_in_a_row_open_it() -> None:
    """Four leave it closed, a success starts the count again, and the fifth in a row opens it."""
    breaker = Breaker("test", _meaning_of)
    for _ in range(FAILURES - 1):
        assert use(breaker, away())
    assert use(breaker)
    for _ in range(FAILURES - 1):
        assert use(breaker, away())
    assert breaker.value() == 0.0
    assert use(breaker, away())
    assert breaker.value() == 1.0
    assert not use(breaker)


def test_it_rests_longer_each_time_and_probes_once(clock: Clock) -> None:
    """5 s, doubling up to 60 s; after each rest one access is tried, and its failure opens it again."""
    breaker = Breaker("test", _meaning_of)
    for _ in range(FAILURES):
        use(breaker, away())
    for rest in (5, 10, 20, 40, 60, 60):
        clock.now += rest - 0.01
        assert breaker.value() == 1.0
        assert not use(breaker)
        clock.now += 0.02
        assert breaker.value() == 0.5
        assert use(breaker, away())
    assert (FIRST_SECONDS, MOST_SECONDS) == (5, 60)


def test_a_probe_that_works_closes_it(clock: Clock) -> None:
    """And the next outage begins with the short rest again."""
    breaker = Breaker("test", _meaning_of)
    for _ in range(2):
        for _ in range(FAILURES):
            use(breaker, away())
        clock.now += FIRST_SECONDS + 0.01
        assert use(breaker, away())
        clock.now += 2 * FIRST_SECONDS + 0.01
        assert use(breaker)
        assert breaker.value() == 0.0


def test_what_does_not_come_from_the_server_changes_nothing(clock: Clock) -> None:
    """A lost turn, or a Redis that is away, says nothing about the database."""
    breaker = Breaker("test", _meaning_of)
    for _ in range(FAILURES):
        use(breaker, away())
    clock.now += FIRST_SECONDS + 0.01
    assert use(breaker, redis.ConnectionError())
    assert breaker.value() == 0.5


@pytest.mark.usefixtures("clock")
def test_an_error_about_the_data_or_the_statement_is_an_answer() -> None:
    """SQLSTATE classes 22, 23, 42 and lost races come from a server in order, and end a row of failures."""
    for error in (
        psycopg.errors.NumericValueOutOfRange(),
        psycopg.errors.CheckViolation(),
        psycopg.errors.UndefinedTable(),
        psycopg.errors.DeadlockDetected(),
        psycopg.errors.LockNotAvailable(),
        psycopg.ProgrammingError("no such parameter"),
    ):
        assert not is_away(error), error
        breaker = Breaker("test", _meaning_of)
        for _ in range(FAILURES - 1):
            use(breaker, away())
        assert use(breaker, error)
        assert use(breaker, away())
        assert breaker.value() == 0.0


def test_a_server_that_cannot_serve_is_away() -> None:
    """No connection, too many of them, shutting down, too slow, a full disk, a standby, a broken page."""
    for error in (
        away(),
        psycopg.InterfaceError("the connection is closed"),
        psycopg.errors.TooManyConnections(),
        psycopg.errors.AdminShutdown(),
        psycopg.errors.CannotConnectNow(),
        psycopg.errors.QueryCanceled(),
        psycopg.errors.DiskFull(),
        psycopg.errors.ReadOnlySqlTransaction(),
        psycopg.errors.IoError(),
        psycopg.errors.DataCorrupted(),
    ):
        assert is_away(error), error
