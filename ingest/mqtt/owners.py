"""The owners of topics that do not name one: found by the accounts' access lists, which a thread reads.

The database notifies of changes, and a slow poll makes up for a lost notification. While the database is away
the last list counts; before the first there is no decision, and messages wait.
"""

import os
import select
import time
from contextlib import suppress

import psycopg
import structlog

from tasks.domain.access import AccessList, NoOwner, Right
from tasks.domain.payload import Refused
from tasks.domain.routing import domain_of
from tasks.domain.topics import KNOWN_SOURCES
from tasks.registry import Domains
from tasks.servers.database import Connection
from tasks.servers.listening import Listening
from tasks.settings import Settings

log = structlog.get_logger()

CHANNEL = "sluice_mqtt_auth"
POLL_SECONDS = 30.0
# A list of many accounts is not read again and again while they change, or strange topics come.
MIN_INTERVAL_SECONDS = 0.5
# A topic that no account holds waits at most this long for another look, while the database is away.
PATIENCE_SECONDS = 5.0
READ = "SELECT username, user_id, permission, topic FROM mqtt_publishers"


class Owners(Listening):
    """The owner of each topic of the domains that find it so. One thread asks, another reads the lists.

    A topic that no account holds is decided once the lists have been read after it was first asked for: the
    right may be as young as the message.
    """

    # A topic whose right is young waits for less than that.
    max_pause_seconds = 2.0

    def __init__(self, chosen: Settings, served: Domains) -> None:
        super().__init__("owners", chosen.owners_database_url().get_secret_value(), "sluice-gateway", CHANNEL)
        self._domains = served
        self._filters = [one for domain in served if domain.access_owner for one in domain.filters]
        self._list: AccessList | None = None
        self._read_at = float("-inf")  # when the last read that succeeded began
        self._rows: frozenset[tuple[object, ...]] = frozenset()
        self._asked: dict[str, float] = {}
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        os.set_blocking(self._wake, False)

    def stop(self) -> None:
        """Ends the thread."""
        self.stopping.set()
        self._rouse()
        super().stop()

    @property
    def known(self) -> bool:
        """Whether the lists have been read."""
        return self._list is not None

    def concern(self, topic: str) -> bool:
        """Whether the owner of the topic is found by the access lists."""
        try:
            return bool(domain_of(topic, self._domains).access_owner)
        except Refused:
            return False

    def of(self, topic: str) -> str | NoOwner:
        """The owner of a topic that is decided, or why there is none; empty if the topic names it."""
        if not self.concern(topic):
            return ""
        assert self._list is not None
        return self._list.owner_of(topic)

    def is_decided(self, topic: str) -> bool:
        """Whether the owner of a topic that they `concern` is known now, as far as it ever will be.

        A topic that no account holds waits for one more look, though not for long.
        """
        known = self._list
        found = None if known is None else known.owner_of(topic)
        if isinstance(found, str) or (found is not None and found.holders):
            return True
        asked = self._asked.get(topic)
        if asked is None:
            if len(self._asked) >= KNOWN_SOURCES:
                self._asked.clear()
            self._asked[topic] = time.monotonic()
            self._rouse()
            return False
        return known is not None and (self._read_at > asked or time.monotonic() - asked > PATIENCE_SECONDS)

    def age(self) -> float:
        """How many seconds ago the lists were read; 0 before the first time."""
        return time.monotonic() - self._read_at if self.known else 0.0

    def _rouse(self) -> None:
        with suppress(BlockingIOError):  # it is roused already
            os.write(self._waker, b"!")

    def follow(self, connection: Connection) -> None:
        """Reads the lists again after each notification, each call for them, and every 30 s."""
        # Notifications that arrive while a query runs never make the socket readable.
        arrived: list[psycopg.Notify] = []
        connection.add_notify_handler(arrived.append)
        while not self.stopping.is_set():
            arrived.clear()
            began = time.monotonic()
            self._take(connection.execute(READ).fetchall(), began)
            self.succeeded()
            if not arrived:
                select.select([self._wake, connection.fileno()], [], [], POLL_SECONDS)
            self.stopping.wait(max(0.0, began + MIN_INTERVAL_SECONDS - time.monotonic()))
            self._drain()
            # Takes in the notifications so far: the next read sees their changes.
            connection.execute("SELECT")

    def _take(self, rows: list[tuple[object, ...]], began: float) -> None:
        fresh = frozenset(rows)
        if self._list is None or fresh != self._rows:
            self._list = AccessList((Right(*map(str, row)) for row in fresh), self._filters)
            self._rows = fresh
            log.info("access_lists_read", rights=len(self._list.rights))
        self._read_at = began

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake, 65_536)
