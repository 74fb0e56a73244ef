"""Listens for changes of rules in the database: the workers reload them, users get a report of faults.

The database notifies; a slow poll of the table makes up for a lost notification.
"""

import threading
import time

import psycopg
import redis
import structlog
from kombu.exceptions import OperationalError

from ingest.requests.rules_report import RulesReport
from tasks import calls
from tasks.servers.database import Connection, connect_directly
from tasks.servers.pauses import pauses
from tasks.servers.rules_version import announce_change
from tasks.settings import Settings

log = structlog.get_logger()

CHANNEL = "sluice_rules"
# Changes that come together are announced together.
GATHER_SECONDS = 0.05
# For more users than this, all rules are read again.
MAX_NAMED = 500
STOP_SECONDS = 1.0
MAX_PAUSE_SECONDS = 30.0

# Differs after every change, even if an old transaction commits late.
FINGERPRINT = "SELECT count(*), sum(extract(epoch FROM updated_at)) FROM user_configs"


class RulesListener:
    """A thread with a database connection of its own."""

    def __init__(self, chosen: Settings) -> None:
        self.report = RulesReport()
        self._database_url = chosen.owners_database_url().get_secret_value()
        self._poll_seconds = chosen.rules_poll_seconds
        self._stopping = threading.Event()
        self._announced: tuple[object, ...] | None = None
        self._pauses = pauses(0.1, MAX_PAUSE_SECONDS)
        self._thread = threading.Thread(target=self._run, name="rules", daemon=True)

    def start(self) -> None:
        """Begins to listen. Earlier changes count as changed now."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the thread lives; it outlives every absence of a server."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with connect_directly(self._database_url, "sluice-control") as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    log.info("rules_listening")
                    self._follow(connection)
            except (psycopg.Error, redis.RedisError, OperationalError) as error:
                pause = next(self._pauses)
                log.warning("rules_not_heard", error=str(error).strip(), again_in_s=pause)
                self._stopping.wait(pause)

    def _follow(self, connection: Connection) -> None:
        check_at = 0.0
        while not self._stopping.is_set():
            heard = _hear(connection, min(STOP_SECONDS, max(0.0, check_at - time.monotonic())))
            if not heard and time.monotonic() < check_at:
                continue
            fingerprint = connection.execute(FINGERPRINT).fetchone()
            if heard or fingerprint != self._announced:
                named = _named(heard)
                _announce(named)
                self.report.look(connection, named)
            # Only now: a change that could not be announced is announced after the next connect.
            self._announced, self._pauses = fingerprint, pauses(0.1, MAX_PAUSE_SECONDS)
            check_at = time.monotonic() + self._poll_seconds


def _hear(connection: Connection, seconds: float) -> set[str]:
    """The users that the database named within this many seconds, and shortly after the first of them."""
    heard = {notice.payload for notice in connection.notifies(timeout=seconds, stop_after=1)}
    if heard:
        heard |= {notice.payload for notice in connection.notifies(timeout=GATHER_SECONDS)}
    return heard


def _named(heard: set[str]) -> list[str] | None:
    """The users whose rules changed; None for all, if none is named or one without a name."""
    return None if not heard or "" in heard or len(heard) > MAX_NAMED else sorted(heard)


def _announce(users: list[str] | None) -> None:
    """Makes the workers read the rules of the users, or of all."""
    announce_change()
    calls.apply_rules(users).apply_async()
    log.info("rules_changed", users=None if users is None else len(users))
