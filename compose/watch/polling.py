"""Reads the servers for the live view, each in its own thread, so that a hanging server stops no other."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg
import redis
from confluent_kafka import KafkaException
from psycopg import sql

from ingest.admin import postgres
from ingest.admin.errors import OperatorError
from ingest.admin.servers.flow import Flow, kafka_flow
from tasks import registry
from tasks.servers import counters
from tasks.settings import Settings

T = TypeVar("T")

PAUSE_SECONDS = 0.5
RATE_SECONDS = 5.0
LATEST_ROWS = 40
"""More than any screen shows."""


class Poller(Generic[T]):
    """Reads one server again and again: `value` is the last reading, `away` says why it is old."""

    def __init__(self, read: Callable[[], T], *, pause: float = PAUSE_SECONDS) -> None:
        self.value: T | None = None
        self.away = "not read yet"
        self._read, self._pause = read, pause
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the reading, after the read that is under way."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.value = self._read()
                self.away = ""
            except (OperatorError, KafkaException, redis.RedisError, psycopg.Error, OSError) as error:
                self.away = " ".join(str(error).split()) or type(error).__name__
            self._stopped.wait(self._pause)


class Meter:
    """Follows a total: how fast it grows, over the last few seconds, and by how much since the first reading.

    A total that was reset, like the counters of a flushed Redis, counts from zero.
    """

    def __init__(self, seconds: float = RATE_SECONDS) -> None:
        self.total: int | None = None
        self.grown = 0
        self._seconds = seconds
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, total: int, now: float) -> None:
        """The total of now; `now` is in seconds on any clock that does not go back."""
        if self.total is not None:
            self.grown += total - self.total if total >= self.total else total
        self.total = total
        self._seen.append((now, self.grown))
        while len(self._seen) > 2 and now - self._seen[1][0] >= self._seconds:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """How fast the total grows."""
        if not self._seen:
            return 0.0
        (then, before), (now, after) = self._seen[0], self._seen[-1]
        return (after - before) / (now - then) if now > then else 0.0


def kafka(chosen: Settings) -> Poller[Flow]:
    """The positions of the two topics."""
    return Poller(kafka_flow(chosen))


def pipeline() -> Poller[dict[str, int]]:
    """The pipeline's own counters, in Redis."""
    return Poller(counters.read)


class Latest(NamedTuple):
    """The newest rows, newest first, and the names of their columns."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def latest_rows() -> Poller[Latest]:
    """The default domain's newest rows by time, without those of clocks that are far ahead."""
    domain = registry.default()
    columns = [column for column in domain.columns if column != domain.extra]
    query = sql.SQL(
        "SELECT {columns} FROM {table} WHERE {time} BETWEEN now() - interval '1 hour'"
        " AND now() + interval '1 minute' ORDER BY {time} DESC LIMIT %s"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        table=sql.Identifier(domain.table),
        time=sql.Identifier(domain.time),
    )
    connections: list[postgres.Connection] = []

    def read() -> Latest:
        connection = connections.pop() if connections else postgres.connect()
        try:
            rows = connection.execute(query, (LATEST_ROWS,)).fetchall()
        except psycopg.Error:
            connection.close()
            raise
        connections.append(connection)
        return Latest(columns, rows)

    return Poller(read, pause=1.0)


def now() -> float:
    """The clock that rates are computed by, in seconds."""
    return time.monotonic()
