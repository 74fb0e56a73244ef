"""What can be broken, and what a fault is."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg
import redis
from psycopg import conninfo

from compose.local.errors import NotReadyError, StackError
from compose.local.passwords import password
from compose.local.stack import Stack
from tests.chaos.proxy import Proxy
from tests.integration import fleet

PROJECT = Path(__file__).resolve().parents[2]
PROCESSES = ("worker", "bridge", "gateway", "control", "beat")
SERVERS = ("redis", "postgres", "kafka")
START_SECONDS = 300


@dataclass
class Place:
    """What can be broken: the stack, the networks before its servers, and the servers' own addresses."""

    stack: Stack
    networks: dict[str, Proxy]
    redis_url: str
    database_url: str
    deleted: list[tuple[str, bytes]] = field(default_factory=list)
    """MQTT topics and payloads of records that were deleted before anybody read them."""
    made_again: bool = False
    """Whether Kafka's topic has been deleted and made again."""
    before_deletion: Callable[[], object] = lambda: None
    """Reads what the topic holds: called when it is about to be deleted, all of it being stored."""

    def rows_url(self) -> str:
        """Where the rows are now."""
        return self.database_url

    def redis(self) -> redis.Redis:
        """A client of the Redis that serves now."""
        return redis.Redis.from_url(self.redis_url)

    def superuser(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection that no lock on Sluice's database keeps out."""
        return psycopg.connect(
            self.database_url,
            user="postgres",
            password=password(self.stack.layout, "postgres-superuser"),
            dbname="postgres",
            autocommit=True,
        )


class Fault(Protocol):
    """Something that breaks. `end` returns when the server is there again; a process comes back by itself."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def seconds(self) -> float:
        """How long it lasts; 0 is a moment."""

    @property
    def touches(self) -> frozenset[str]:
        """The servers and processes that it breaks, or needs whole; two faults at once share none."""

    def begin(self, place: Place) -> None:
        """Breaks it."""

    def end(self, place: Place) -> None:
        """Mends it."""


def await_return(stack: Stack, name: str, killed: int) -> None:
    """Returns when the server that was killed has been started again, and answers."""
    fleet.wait_until(lambda: _pid(stack, name) not in {None, killed}, 60, f"{name} to be started again")
    start(stack, name)


def start(stack: Stack, name: str) -> None:
    """Starts a server, and gives it longer than a user would: the machine may have other work."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            stack.start(name)
        except NotReadyError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def _pid(stack: Stack, name: str) -> int | None:
    # While it is started again its pid file may be missing, or empty.
    with suppress(StackError):
        return stack.pid(name)
    return None


def database_name(place: Place) -> str:
    """The name of Sluice's database."""
    return str(conninfo.conninfo_to_dict(place.database_url)["dbname"])
