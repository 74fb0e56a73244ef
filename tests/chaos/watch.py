"""Looks several times a second how far the readings have got, and so how old each was when it was stored."""

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from tasks.servers.database import connect_directly
from tests.chaos.load import DEVICES, Load

LOOK_SECONDS = 0.2
SILENT_SECONDS = 3.0
# The readings after the last tick that all devices have stored; a few milliseconds even on a large table.
STORED = """
SELECT count(*), min(newest) FROM (
    SELECT max(sequence_id) AS newest FROM raw_telemetry
    WHERE user_id = ANY(%s) AND time >= now() - make_interval(secs => %s) GROUP BY user_id, device_id
) AS devices
"""


class Watch:
    """The progress of a load, seen from the database. A database that does not answer is asked again."""

    def __init__(self, database_url: Callable[[], str], load: Load) -> None:
        self._url = database_url
        self._load = load
        self._worst = 0.0
        self._advanced = time.monotonic()
        self._pause = 0.0
        self.stored = -1
        """Every device's readings up to this tick are rows."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def behind(self) -> float:
        """For how many seconds the oldest tick that is not stored has been waiting."""
        published = self._load.published
        following = self.stored + 1
        return time.monotonic() - published[following] if following < len(published) else 0.0

    def worst(self) -> float:
        """The greatest age, in seconds, that a tick had when it was stored, since the last call."""
        worst, self._worst = self._worst, 0.0
        return worst

    def longest_pause(self) -> float:
        """The longest time, in seconds, between two looks that found further rows, since the last call."""
        longest, self._pause = self._pause, 0.0
        return longest

    def stop(self) -> None:
        """Ends looking."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                url = self._url()
                with connect_directly(url, "chaos", SILENT_SECONDS) as connection:
                    # Another server may have the rows by now, and this one may go on.
                    while not self._stopping.wait(LOOK_SECONDS) and self._url() == url:
                        self._look(connection)
            except psycopg.Error:
                # It is what is broken on purpose; the age of what waits is seen when it is back.
                time.sleep(LOOK_SECONDS)

    def _look(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        since = self.behind() + 10
        found = connection.execute(STORED, [self._load.users, since]).fetchone()
        assert found is not None
        devices, newest = found
        if devices == DEVICES and newest > self.stored:
            self._worst = max(self._worst, self.behind())
            self.stored = newest
            now = time.monotonic()
            self._pause, self._advanced = max(self._pause, now - self._advanced), now
