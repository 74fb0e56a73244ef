"""The order of the gateway's PUBACKs: as the messages came, each only when Kafka has its record."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Unacknowledged:
    """A message that came by MQTT and waits for Kafka: its packet id, and the connection that it came by."""

    mid: int
    qos: int
    connection: int
    confirmed: bool = False
    since: float = field(default_factory=time.monotonic)


class Acknowledgements:
    """Messages come by one thread and are confirmed by another; calls `acknowledge(mid, qos)` in order."""

    def __init__(self, acknowledge: Callable[[int, int], object]) -> None:
        self._acknowledge = acknowledge
        self._waiting: deque[Unacknowledged] = deque()
        self._connection = 0
        # Reentrant: acknowledging may find the connection ended, and says so in the same thread.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._waiting)

    def oldest_seconds(self) -> float:
        """For how long the longest has been waiting; 0 when none waits."""
        with self._lock:
            return time.monotonic() - self._waiting[0].since if self._waiting else 0.0

    def add(self, mid: int, qos: int) -> Unacknowledged:
        """Takes note of a message; hand the result to `confirm`."""
        with self._lock:
            message = Unacknowledged(mid, qos, self._connection)
            self._waiting.append(message)
            return message

    def confirm(self, message: Unacknowledged) -> None:
        """Kafka has the record: acknowledges it and what follows, unless an earlier message still waits."""
        with self._lock:
            message.confirmed = True
            while self._waiting and self._waiting[0].confirmed:
                first = self._waiting.popleft()
                if first.connection == self._connection:
                    self._acknowledge(first.mid, first.qos)

    def connection_ended(self) -> None:
        """From now on nothing of the old connection is acknowledged.

        The broker sends it again, and a packet id means nothing beyond its connection.
        """
        with self._lock:
            self._connection += 1
