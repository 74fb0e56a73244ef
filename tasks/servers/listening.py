"""A thread that listens to the database's notifications by a connection of its own."""

import threading
from abc import ABC, abstractmethod
from typing import ClassVar

import psycopg
import structlog

from tasks.servers.database import Connection, connect_directly, silence_seconds
from tasks.servers.pauses import pauses

log = structlog.get_logger()

STOP_SECONDS = 5.0


class Listening(threading.Thread, ABC):
    """Follows a channel until `stop`. It outlives every absence of a server, with a back-off."""

    failures: ClassVar[tuple[type[Exception], ...]] = (psycopg.Error,)
    max_pause_seconds: ClassVar[float] = 30.0

    def __init__(self, name: str, database_url: str, application_name: str, channel: str) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self._database_url, self._application_name, self._channel = database_url, application_name, channel
        self.succeeded()

    def run(self) -> None:
        """The thread's work."""
        while not self.stopping.is_set():
            try:
                with connect_directly(
                    self._database_url, self._application_name, silence_seconds()
                ) as connection:
                    connection.execute(f"LISTEN {self._channel}")
                    log.info("database_heard", channel=self._channel)
                    self.follow(connection)
            except self.failures as error:
                pause = next(self._pauses)
                log.warning(
                    "database_not_heard", channel=self._channel, error=str(error).strip(), again_in_s=pause
                )
                self.stopping.wait(pause)

    def stop(self) -> None:
        """Ends the thread; a thread that waits for a silent server ends with the process."""
        self.stopping.set()
        self.join(STOP_SECONDS)

    def succeeded(self) -> None:
        """What `follow` calls when all is well: the pauses after the next failure begin with the shortest."""
        self._pauses = pauses(0.1, self.max_pause_seconds)

    @abstractmethod
    def follow(self, connection: Connection) -> None:
        """Does the work with a connection that listens, until `stopping`. Raises `failures`."""
