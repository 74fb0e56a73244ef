"""The circuit breaker of the database, in several processes and against servers that are away or silent."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tasks import settings
from tasks.servers import database as module
from tasks.servers.breaker import FAILURES, FIRST_SECONDS, Breaker, CircuitOpen
from tasks.servers.redis_client import client
from tests.conftest import DeadLetters
from tests.integration import fleet
from tests.integration.lag import wait_for_no_lag
from tests.integration.production import assert_one_outcome_each, counter, good, produce, row_count


class Silent:
    """A port that accepts connections and never says anything, and counts them."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.connections.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        """Ends all connections."""
        self._listener.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    """A database that accepts and never answers."""
    server = Silent()
    yield server
    server.close()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """The modules of `tasks` in this process with other settings."""
    before = dict(os.environ)
    os.environ.update(values)
    settings.settings.cache_clear()
    module.close()
    try:
        yield
    finally:
        module.close()
        os.environ.clear()
        os.environ.update(before)
        settings.settings.cache_clear()


def meaning_of(_: BaseException) -> Any:
    """Every error is a failure of the server."""
    return "failed"


def fail(breaker: Breaker) -> None:
    """One access that fails."""
    with pytest.raises(psycopg.OperationalError), breaker:
        raise psycopg.OperationalError("refused")


def breaker_value() -> float:
    """The state as all workers have it."""
    return module.breaker().value()


@pytest.mark.usefixtures("in_process")
def test_all_workers_share_one_breaker() -> None:
    """Failures in a row count wherever they happen, one process probes, and its success closes it for all."""
    name = uuid4().hex[:8]
    one, other, third = (Breaker(name, meaning_of) for _ in range(3))
    for number in range(FAILURES):
        fail((one, other)[number % 2])
    for breaker in (one, other, third):
        assert breaker.value() == 1.0
        with pytest.raises(CircuitOpen), breaker:
            pytest.fail("an open breaker let an access through")
    left_ms = client().pttl(f"sluice:breaker:{name}:open")
    assert FIRST_SECONDS * 1000 - 2000 < left_ms <= FIRST_SECONDS * 1000
    client().delete(f"sluice:breaker:{name}:open")  # the rest is over
    assert third.value() == 0.5
    with other:
        with pytest.raises(CircuitOpen), one:
            pytest.fail("two probes at once")
        assert one.value() == 0.5
    assert [breaker.value() for breaker in (one, other, third)] == [0.0, 0.0, 0.0]


@pytest.mark.usefixtures("in_process")
def test_a_failed_probe_doubles_the_rest_for_all() -> None:
    """Whichever process probes next, the pause keeps growing."""
    name = uuid4().hex[:8]
    workers = [Breaker(name, meaning_of) for _ in range(3)]
    for _ in range(FAILURES):
        fail(workers[0])
    rests = []
    for probe in range(5):
        client().delete(f"sluice:breaker:{name}:open")
        fail(workers[probe % 3])
        rests.append(round(client().pttl(f"sluice:breaker:{name}:open") / 1000))
    assert rests == [10, 20, 40, 60, 60]


class Hurried(Breaker):
    """A breaker beside which another process tries at the very moment of a failure."""

    def _log_opened(self, error: BaseException | None) -> None:
        if self.failures == FAILURES:
            with pytest.raises(CircuitOpen), Breaker(self.name, meaning_of):
                pytest.fail("let through before the rest had begun")
        super()._log_opened(error)


@pytest.mark.usefixtures("in_process")
def test_nobody_probes_before_the_rest_has_begun() -> None:
    """The failure that opens the breaker and the rest are one step for all others."""
    hurried = Hurried(uuid4().hex[:8], meaning_of)
    for _ in range(FAILURES):
        fail(hurried)
    assert client().ttl(f"sluice:breaker:{hurried.name}:open") <= FIRST_SECONDS


@pytest.mark.usefixtures("in_process")
def test_the_first_access_after_an_outage_finds_the_database_back(stack: Stack) -> None:
    """PgBouncer reports the past outage to the first client, and that must not cost another pause."""
    with module.access() as connection:
        connection.execute("SELECT")
    stack.stop("postgres")
    with pytest.raises(psycopg.OperationalError), module.access() as connection:
        connection.execute("SELECT")
    with pytest.raises(psycopg.OperationalError), module.access() as connection:
        connection.execute("SELECT")
    stack.start("postgres")
    time.sleep(2)  # longer than `server_login_retry`, before which PgBouncer would not try
    with module.access() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert breaker_value() == 0.0


@pytest.mark.usefixtures("in_process")
def test_nothing_reaches_a_database_that_is_left_alone(silent: Silent) -> None:
    """A server that accepts and never answers costs five waits of bounded length, and then nothing."""
    url = f"postgresql://sluice@127.0.0.1:{silent.port}/sluice"
    before = int(client().hget("sluice:counters", "db_rejected") or 0)
    with environment(DATABASE_URL=url, DATABASE_CONNECT_TIMEOUT_SECONDS="2"):
        started = time.monotonic()
        for _ in range(FAILURES):
            with pytest.raises(psycopg.OperationalError), module.access():
                pytest.fail("nobody answered")
        assert time.monotonic() - started < 2 * FAILURES + 60
        tried = len(silent.connections)
        for _ in range(20):
            with pytest.raises(CircuitOpen), module.access():
                pytest.fail("the breaker is open")
        assert len(silent.connections) == tried
    assert int(client().hget("sluice:counters", "db_rejected") or 0) == before + 20
    client().delete("sluice:breaker:database", "sluice:breaker:database:open")


@pytest.mark.usefixtures("in_process")
def test_a_server_that_falls_silent_in_a_statement_is_given_up_within_bounds() -> None:
    """A stopped backend whose host still acknowledges every packet: no socket limit would ever notice."""
    with environment(DATABASE_STATEMENT_TIMEOUT_SECONDS="1"):
        with module.access() as connection:
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        backend = int(str(row[0]))
        os.kill(backend, signal.SIGSTOP)
        started = time.monotonic()
        try:
            with (
                pytest.raises(psycopg.OperationalError, match="no answer"),
                module.access() as connection,
                connection.transaction(),
            ):
                connection.execute("SELECT 1")
        finally:
            os.kill(backend, signal.SIGCONT)
        assert time.monotonic() - started < 60
        with module.access() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert breaker_value() == 0.0


@pytest.mark.usefixtures("on_servers")
def test_an_outage_opens_the_breaker_and_the_return_closes_it(
    pipeline: Stack, dead_letters: DeadLetters
) -> None:
    """While the database is away all workers leave it alone; soon after its return everything is stored."""
    run = uuid4().hex[:8]
    rejected = counter(pipeline, "db_rejected")
    pipeline.stop("postgres")
    produce(pipeline, run, range(5000))
    fleet.wait_until(lambda: breaker_value() == 1.0, 60, "the workers to open the breaker")
    # The workers' own next access may come when the rest is over already.
    with pytest.raises(CircuitOpen), module.access():
        pytest.fail("the breaker is open")
    assert counter(pipeline, "db_rejected") > rejected
    pipeline.start("postgres")
    with psycopg.connect(pipeline.env["DATABASE_DIRECT_URL"], autocommit=True) as database:
        fleet.wait_until(lambda: row_count(database, run) >= len(good(5000)), 120, "the rows")
        wait_for_no_lag(pipeline)
        assert_one_outcome_each(database, dead_letters, run, 5000)
    assert breaker_value() == 0.0
    worker = pipeline.log("worker")
    assert all(event in worker for event in ("breaker_open", "breaker_half_open", "breaker_closed"))
