"""Messages that wait until the owner of their topic is decided, in the order in which they came."""

from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from ingest.mqtt.packets import Publish

ConfirmT = TypeVar("ConfirmT")


class _Waiting(NamedTuple, Generic[ConfirmT]):
    message: Publish
    confirm: ConfirmT
    wanted: Callable[[], bool]


class Held(Generic[ConfirmT]):
    """One queue for all topics that `concern` it, because a device may publish on several.

    It is bounded by what the broker sends without an acknowledgement.
    """

    def __init__(self, concerns: Callable[[str], bool], is_decided: Callable[[str], bool]) -> None:
        self._concerns, self._is_decided = concerns, is_decided
        self._waiting: deque[_Waiting[ConfirmT]] = deque()
        self.unpromised = 0  # messages of QoS 0 among them

    def __len__(self) -> int:
        return len(self._waiting)

    def holds(self, message: Publish, confirm: ConfirmT, wanted: Callable[[], bool]) -> bool:
        """Keeps the message if it must wait; False if it may go on. It is dropped once it is not `wanted`."""
        if not self._concerns(message.topic):
            return False
        # Asked even if others wait before it: one look decides about all of their topics.
        if self._is_decided(message.topic) and not self._waiting:
            return False
        self._waiting.append(_Waiting(message, confirm, wanted))
        self.unpromised += message.qos == 0
        return True

    def release(self, go_on: Callable[[Publish, ConfirmT], None]) -> None:
        """Calls `go_on` with the messages that need not wait any more, in their order."""
        while self._waiting:
            first = self._waiting[0]
            wanted = first.wanted()
            if wanted and not self._is_decided(first.message.topic):
                return
            self._waiting.popleft()
            self.unpromised -= first.message.qos == 0
            if wanted:
                go_on(first.message, first.confirm)
