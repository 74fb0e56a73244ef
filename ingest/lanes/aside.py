"""Messages that a lane has set aside: of users whose alerts make more work than a batch has room for. Pure.

Each such user has a queue of their own, of which a few messages go with each batch. So only they wait: the
messages of others pass by.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.batch.messages import Message

# A user whose outbox is full is tried again after this pause, with this many messages.
PAUSE_SECONDS = 1.0
PROBE_MESSAGES = 64
MOST_MESSAGES = 1 << 16


class Gathered(NamedTuple):
    """A message that waits in its lane, with the Kafka key by which its batch is split."""

    key: bytes
    message: Message

    @property
    def user(self) -> bytes:
        """Whose message it is: the key's first level."""
        return self.key.partition(b"/")[0]


@dataclass
class Queue:
    """One user's messages, in order, and how many of them the next batch may have, from when on."""

    messages: deque[Gathered] = field(default_factory=deque)
    quota: int = PROBE_MESSAGES
    resume_at: float = 0.0


class Aside:
    """The queues of a lane. A user has one from the first deferred message until nothing of it is left."""

    def __init__(self) -> None:
        self._queues: dict[bytes, Queue] = {}
        self.count = 0
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __contains__(self, user: bytes) -> bool:
        return user in self._queues

    def __iter__(self) -> Iterator[Gathered]:
        for queue in self._queues.values():
            yield from queue.messages

    def due(self, now: float) -> bool:
        """Whether messages of any user may go."""
        return any(queue.messages and now >= queue.resume_at for queue in self._queues.values())

    def append(self, gathered: Gathered) -> None:
        """Takes a new message of a user who has a queue."""
        self._queues[gathered.user].messages.append(gathered)
        self._count([gathered], 1)

    def take(self, now: float, messages: int, size: int) -> list[Gathered]:
        """The next messages of each user in turn, at most `messages` and `size` bytes, one at least."""
        taken: list[Gathered] = []
        for user, queue in list(self._queues.items()):
            if not queue.messages or now < queue.resume_at:
                continue
            quota = queue.quota
            while queue.messages and quota > 0:
                length = len(queue.messages[0].message.payload)
                if taken and (len(taken) >= messages or length > size):
                    break
                taken.append(queue.messages.popleft())
                size -= length
                quota -= 1
            if quota == queue.quota:
                break  # the batch is full, and this user is the next one's first
            # Behind those who are still to have their turn.
            self._queues[user] = self._queues.pop(user)
        self._count(taken, -1)
        return taken

    def put_back(self, user: bytes, unfinished: Sequence[Gathered], finished: int, resume_at: float) -> None:
        """Puts unfinished messages in front. The next batch gets twice as many as were finished."""
        queue = self._queues.setdefault(user, Queue())
        queue.messages.extendleft(reversed(unfinished))
        queue.resume_at = resume_at
        if finished:
            queue.quota = 2 * finished
        self._count(unfinished, 1)

    def went_on(self, users: Iterable[bytes]) -> None:
        """Notes that a batch finished all it had of these users: the next one gets more."""
        for user in users:
            if queue := self._queues.get(user):
                queue.quota = min(2 * queue.quota, MOST_MESSAGES)
                if not queue.messages:
                    del self._queues[user]

    def _count(self, messages: Sequence[Gathered], sign: int) -> None:
        self.count += sign * len(messages)
        self.size += sign * sum(len(one.message.payload) for one in messages)
