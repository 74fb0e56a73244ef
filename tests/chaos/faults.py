"""The faults, one class a kind: how it begins, and how it ends, which is when the recovery begins."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
import redis
from psycopg import sql

from compose.local.preparation import process_environment
from tests.chaos.place import PROJECT, SERVERS, Place, await_return, database_name, start
from tests.integration import fleet


@dataclass(frozen=True)
class Kill:
    """SIGKILL; the supervisor starts it again."""

    victim: str
    seconds: float = 0
    killed: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"kill {self.victim}"

    @property
    def touches(self) -> frozenset[str]:
        """Its victim; without PostgreSQL PgBouncer does not count as there again."""
        return frozenset({"postgres" if self.victim == "pgbouncer" else self.victim})

    def begin(self, place: Place) -> None:
        """A worker's main process leaves its children behind, which its next start ends."""
        self.killed.append(place.stack.pid(self.victim))
        fleet.kill(self.killed[-1])

    def end(self, place: Place) -> None:
        """A server's start is the server's own affair and is awaited."""
        if self.victim in (*SERVERS, "pgbouncer"):
            await_return(place.stack, self.victim, self.killed[-1])


@dataclass(frozen=True)
class KillChildren:
    """SIGKILL of each process of the worker's pool; its main process forks others."""

    name: str = "kill worker's children"
    touches: frozenset[str] = frozenset({"worker"})
    seconds: float = 0

    def begin(self, place: Place) -> None:
        """All at once."""
        for child in fleet.children(place.stack.pid("worker")):
            with suppress(ProcessLookupError):  # the pool may just have shrunk
                fleet.kill(child)

    def end(self, place: Place) -> None:
        """Nothing is to be mended."""


@dataclass(frozen=True)
class Hang:
    """SIGSTOP of all its processes: no connection breaks, and nobody answers."""

    victim: str
    seconds: float
    stopped: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"hang {self.victim}"

    @property
    def touches(self) -> frozenset[str]:
        """Its victim."""
        return frozenset({self.victim})

    def begin(self, place: Place) -> None:
        """The parent first, so that it cannot replace its children."""
        self._stop(place.stack.pid(self.victim))

    def end(self, place: Place) -> None:  # noqa: ARG002
        """The children first, so that the parent finds them as they were."""
        while self.stopped:
            with suppress(ProcessLookupError):
                os.kill(self.stopped.pop(), signal.SIGCONT)

    def _stop(self, pid: int) -> None:
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(pid, signal.SIGSTOP)
            self.stopped.append(pid)
            for child in fleet.children(pid):
                self._stop(child)


@dataclass(frozen=True)
class Away:
    """The server is stopped and nobody listens on its port."""

    victim: str
    seconds: float

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.victim} away"

    @property
    def touches(self) -> frozenset[str]:
        """Its victim."""
        return frozenset({self.victim})

    def begin(self, place: Place) -> None:
        """Gently, as an operator would."""
        place.stack.stop(self.victim)

    def end(self, place: Place) -> None:
        """Returns when it answers."""
        start(place.stack, self.victim)


@dataclass(frozen=True)
class RestartBroker:
    """Mosquitto is restarted gently: a killed one loses what it acknowledged in its last seconds."""

    name: str = "restart mosquitto"
    touches: frozenset[str] = frozenset({"mosquitto"})
    seconds: float = 0

    def begin(self, place: Place) -> None:
        """Its sessions are saved, and loaded again."""
        place.stack.restart("mosquitto")

    def end(self, place: Place) -> None:
        """Nothing is to be mended."""


@dataclass(frozen=True)
class Refuse:
    """PostgreSQL runs, throws everybody out of Sluice's database and lets nobody in."""

    seconds: float
    name: str = "postgres refuses"
    touches: frozenset[str] = frozenset({"postgres"})

    def begin(self, place: Place) -> None:
        """As during an administrator's work on the database."""
        with place.superuser() as connection:
            self._allow(connection, place, allowed=False)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [database_name(place)],
            )

    def end(self, place: Place) -> None:
        """The database is open again."""
        with place.superuser() as connection:
            self._allow(connection, place, allowed=True)

    def _allow(self, connection: psycopg.Connection[tuple[Any, ...]], place: Place, *, allowed: bool) -> None:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                sql.Identifier(database_name(place)), sql.Literal(allowed)
            )
        )


@dataclass(frozen=True)
class Flush:
    """FLUSHALL: queues, leases, results, states of alerts, the outbox."""

    name: str = "flush redis"
    touches: frozenset[str] = frozenset({"redis"})
    seconds: float = 0

    def begin(self, place: Place) -> None:
        """Several times, so that also what comes back at once is lost."""
        with redis.Redis.from_url(place.redis_url) as client:
            for _ in range(10):
                client.flushall()
                time.sleep(0.1)

    def end(self, place: Place) -> None:
        """Nothing is to be mended."""


@dataclass(frozen=True)
class Full:
    """Redis has no memory left and refuses to write."""

    seconds: float
    name: str = "redis full"
    touches: frozenset[str] = frozenset({"redis"})
    before: list[str] = field(default_factory=list)

    def begin(self, place: Place) -> None:
        """Less than it has already."""
        with redis.Redis.from_url(place.redis_url, decode_responses=True) as client:
            self.before.append(client.config_get("maxmemory")["maxmemory"])
            client.config_set("maxmemory", "1mb")

    def end(self, place: Place) -> None:
        """As it was."""
        with redis.Redis.from_url(place.redis_url) as client:
            client.config_set("maxmemory", self.before.pop())


@dataclass(frozen=True)
class Stall:
    """Between Sluice and the server nothing arrives any more, in either direction."""

    victim: str
    seconds: float

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"stalled network to {self.victim}"

    @property
    def touches(self) -> frozenset[str]:
        """Its victim."""
        return frozenset({self.victim})

    def begin(self, place: Place) -> None:
        """Connections stay open, and new ones are accepted."""
        place.networks[self.victim].stall()

    def end(self, place: Place) -> None:
        """What was sent arrives."""
        place.networks[self.victim].flow()


@dataclass(frozen=True)
class SecondBridge:
    """Another bridge joins the group, works, and leaves."""

    seconds: float
    name: str = "a bridge joins and leaves"
    touches: frozenset[str] = frozenset({"bridge", "kafka"})
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def begin(self, place: Place) -> None:
        """Partitions move to it, once it runs as far as it can be stopped gently."""
        environment = {**os.environ, **process_environment(place.stack.env)}
        process = subprocess.Popen([sys.executable, "-m", "ingest.bridge"], cwd=PROJECT, env=environment)
        self.processes.append(process)
        fleet.wait_until(lambda: fleet.catches(process.pid, signal.SIGTERM), 60, "the second bridge to run")

    def end(self, place: Place) -> None:  # noqa: ARG002
        """Gently; a bridge that does not stop is an error."""
        process = self.processes.pop()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
