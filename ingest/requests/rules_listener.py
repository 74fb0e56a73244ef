"""Listens for changes of rules in the database: the workers reload them, users get a report of faults.

The database notifies; a slow poll of the table makes up for a lost notification.
"""

import time

import psycopg
import redis
import structlog
from kombu.exceptions import OperationalError

from ingest.requests.rules_report import RulesReport
from tasks import calls
from tasks.servers.database import Connection
from tasks.servers.listening import Listening
from tasks.servers.rules_version import announce_change
from tasks.settings import Settings

log = structlog.get_logger()

CHANNEL = "sluice_rules"
# Changes that come together are announced together.
GATHER_SECONDS = 0.05
# For more users than this, all rules are read again.
MAX_NAMED = 500
STOP_SECONDS = 1.0

# Differs after every change, even if an old transaction commits late.
FINGERPRINT = "SELECT count(*), sum(extract(epoch FROM updated_at)) FROM user_configs"
OF_GROUPS = "SELECT count(*), sum(extract(epoch FROM changed_at)) FROM device_group_versions"
# A control process of this version may be there before the table is.
HAS_GROUPS = "SELECT to_regclass('device_group_versions') IS NOT NULL"


class RulesListener(Listening):
    """The thread that listens. Earlier changes count as changed when it begins."""

    # Also those of announcing a change, which is then announced after the next connect.
    failures = (psycopg.Error, redis.RedisError, OperationalError)

    def __init__(self, chosen: Settings) -> None:
        super().__init__("rules", chosen.owners_database_url().get_secret_value(), "sluice-control", CHANNEL)
        self.report = RulesReport()
        self._poll_seconds = chosen.rules_poll_seconds
        self._announced: tuple[object, ...] | None = None

    def follow(self, connection: Connection) -> None:
        """Announces each change, and what a slow poll finds."""
        check_at = 0.0
        while not self.stopping.is_set():
            heard = _hear(connection, min(STOP_SECONDS, max(0.0, check_at - time.monotonic())))
            if not heard and time.monotonic() < check_at:
                continue
            fingerprint = _fingerprint(connection)
            if heard or fingerprint != self._announced:
                named = _named(heard)
                _announce(named)
                self.report.look(connection, named)
            # Only now: a change that could not be announced is announced after the next connect.
            self._announced = fingerprint
            self.succeeded()
            check_at = time.monotonic() + self._poll_seconds


def _fingerprint(connection: Connection) -> tuple[object, ...]:
    found = connection.execute(FINGERPRINT).fetchone() or ()
    if connection.execute(HAS_GROUPS).fetchone() == (True,):
        found += connection.execute(OF_GROUPS).fetchone() or ()
    return found


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
