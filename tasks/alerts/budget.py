"""Limits on what may change while a part of a batch is judged: for each user, and in one commit. Pure."""

from collections import Counter
from collections.abc import Iterable

from tasks.domain.domain import Source
from tasks.rules.change import Change
from tasks.rules.state import DeviceState

# Redis serves no other client while it commits.
COMMIT_BYTES = 2_097_152
# Bytes of a change in the outbox besides its texts, which are there twice; likewise of an entry of a state.
CHANGE_BYTES, ENTRY_BYTES = 900, 100


class Budget:
    """Decides when to stop judging: a user's readings, for this part, and devices, for this commit.

    A user's first reading is always judged, and a commit's first device, so there is always progress.
    """

    def __init__(self, user_bytes: int) -> None:
        self._user_bytes = user_bytes
        self._spent: Counter[str] = Counter()
        self._spent_now: Counter[str] = Counter()
        self._size = 0
        self._begun: set[Source] = set()
        self._no_room: set[Source] = set()
        # By device that was stopped: how many of its readings are judged.
        self.stopped: dict[Source, int] = {}

    def begin(self, source: Source) -> bool:
        """Whether this commit has room for the device. A device that is repeated begins another attempt."""
        if source in self._begun:
            self._restart()
        self._begun.add(source)
        self.stopped.pop(source, None)
        if self._size >= COMMIT_BYTES:
            self._no_room.add(source)
            return False
        return True

    def allows(self, user_id: str) -> bool:
        """Whether one more reading of the user may be judged."""
        return self._spent[user_id] + self._spent_now[user_id] < self._user_bytes

    def spend(self, user_id: str, changes: Iterable[Change]) -> None:
        """Counts changes of the user."""
        size = sum(
            CHANGE_BYTES + 2 * _length(one.message, one.threshold, one.value, one.values) for one in changes
        )
        self._spent_now[user_id] += size
        self._size += size

    def carry(self, state: DeviceState) -> None:
        """Counts a state that is to be written."""
        self._size += sum(
            ENTRY_BYTES + _length(entry.facts.message, entry.facts.threshold, entry.value, entry.values)
            for entry in state.entries.values()
        )
        self._size += sum(ENTRY_BYTES + _length(one.value) for one in state.before.values())

    def committed(self) -> set[Source]:
        """Notes that the commit is made; returns the devices that it had room for, which are done."""
        done = self._begun - self._no_room
        self._spent += self._spent_now
        self._restart()
        return done

    def _restart(self) -> None:
        self._spent_now.clear()
        self._size = 0
        self._begun.clear()
        self._no_room.clear()


def _length(*parts: object) -> int:
    """The length of texts, lists and objects; numbers are in the constants."""
    return sum(len(str(one)) for one in parts if isinstance(one, str | list | dict))
