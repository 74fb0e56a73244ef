"""The order of PUBACKs: as the messages came, each only when Kafka has it or it is answered."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from paho.mqtt.client import MQTTMessageInfo


@dataclass(slots=True, eq=False)
class Unacknowledged:
    """A message that came by MQTT and is not safe yet: its packet id, and the connection that it came by."""

    mid: int
    connection: int
    confirmed: bool = False
    since: float = field(default_factory=time.monotonic)


class Answers:
    """Messages that are safe when the broker has their answers. Any thread may add to them."""

    def __init__(self) -> None:
        self._on_the_way: deque[tuple[MQTTMessageInfo, list[Unacknowledged]]] = deque()

    def __len__(self) -> int:
        return len(self._on_the_way)

    def add(self, answer: MQTTMessageInfo, messages: list[Unacknowledged]) -> None:
        """An answer was published, after those of before."""
        self._on_the_way.append((answer, messages))

    def arrived(self) -> Iterator[Unacknowledged]:
        """The messages whose answers the broker has acknowledged since the last call, in their order.

        Also those whose answers had no connection: by the next one they come again, and are answered again.
        """
        while self._on_the_way and _is_over(self._on_the_way[0][0]):
            yield from self._on_the_way.popleft()[1]


def _is_over(answer: MQTTMessageInfo) -> bool:
    try:
        return answer.is_published()
    except RuntimeError:
        return True


class Acknowledgements:
    """Messages may come by one thread and be confirmed by another; calls `acknowledge(mids)` in order."""

    def __init__(self, acknowledge: Callable[[list[int]], object]) -> None:
        self._acknowledge = acknowledge
        self._waiting: deque[Unacknowledged] = deque()
        self._connection = 0
        # Reentrant: acknowledging may find the connection ended, and says so in the same thread.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._waiting)

    def oldest_seconds(self) -> float:
        """How long the oldest message has waited; 0 when none waits."""
        with self._lock:
            return time.monotonic() - self._waiting[0].since if self._waiting else 0.0

    def add(self, mid: int) -> Unacknowledged:
        """Takes note of a message; hand the result to `confirm`."""
        with self._lock:
            message = Unacknowledged(mid, self._connection)
            self._waiting.append(message)
            return message

    def holding_up(self, most: int, seconds: float) -> Unacknowledged | None:
        """The first message, if it has waited this long with more than `most` confirmed ones behind it."""
        with self._lock:
            if len(self._waiting) <= most or self.oldest_seconds() < seconds:
                return None
            held = sum(message.confirmed for message in self._waiting)
            return self._waiting[0] if held > most and not self._waiting[0].confirmed else None

    def confirm(self, message: Unacknowledged) -> None:
        """The message is safe: `release` acknowledges it, once all before it are."""
        message.confirmed = True

    def release(self) -> None:
        """Acknowledges what is confirmed and has no earlier message that still waits, all at once."""
        with self._lock:
            mids: list[int] = []
            while self._waiting and self._waiting[0].confirmed:
                first = self._waiting.popleft()
                if first.connection == self._connection:
                    mids.append(first.mid)
            if mids:
                self._acknowledge(mids)

    def is_current(self, message: Unacknowledged) -> bool:
        """Whether the connection that the message came by has not ended: else the broker sends it again."""
        with self._lock:
            return message.connection == self._connection

    def connection_ended(self) -> None:
        """From now on nothing of the old connection is acknowledged.

        The broker sends it again, and a packet id means nothing beyond its connection.
        """
        with self._lock:
            self._connection += 1
