"""The newest dead letters of one topic, remembered between looks at it: what is counted and shown of each."""

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from ingest.admin.letters.dlq_outcome import State, unhandled
from tasks.dead_letters.letter import Filters, Letter, LetterId
from tasks.domain.domain import Source
from tasks.servers.topic_reader import Range

# A letter is remembered and shown with this much of its payload: 1,000 whole ones may have 256 MB.
MOST_PAYLOAD_BYTES = 4096
# The memory that a letter's objects take besides their text, in 64-bit CPython.
_FRAME_BYTES = 900


class Group(NamedTuple):
    """The properties that letters share; the user and the device are empty where the topic names none."""

    error_type: str
    user_id: str
    device_id: str
    hour: datetime


class Remembered(NamedTuple):
    """A letter with at most the first `MOST_PAYLOAD_BYTES` of its payload, and what its topic says."""

    letter: Letter
    payload_bytes: int
    source: Source | None
    group: Group
    unhandled: State  # how it stands while nothing was done about it
    size: int


class Memory:
    """At most `most` letters of about `most_bytes` in all; when there are more, the oldest are forgotten.

    It does no I/O and has no lock. The reader of the topic asks `news` what to read, hands over each
    record with `take`, and says with `reached` that nothing was left out; then the memory has every letter
    that `covers` promises. A read that breaks off continues where it stopped.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._topic_id = ""
        self._clear()

    def _clear(self) -> None:
        self._letters: dict[int, deque[Remembered]] = {}
        self._next: dict[int, int] = {}
        # No letter that was refused later than this has been left out.
        self._left_out = datetime.min.replace(tzinfo=UTC)
        self._all = True
        self.count = 0
        self.size = 0

    def covers(self, since: datetime | None) -> bool:
        """Whether no letter that was refused at that time or later, or ever, is missing but for news."""
        return self._all or (since is not None and since > self._left_out)

    def news(self, topic_id: str, ranges: Mapping[int, Range]) -> dict[int, Range]:
        """The ranges to read out of these, which are all that the topic has.

        Forgets what they no longer have, and everything when this is no longer the topic that was read.
        """
        another = self._topic_id not in {"", topic_id} or self._next.keys() - ranges.keys()
        if another or any(end < self._next.get(number, 0) for number, (_, end) in ranges.items()):
            self._clear()
        self._topic_id = topic_id
        for number, (low, _) in ranges.items():
            letters = self._letters.setdefault(number, deque())
            while letters and letters[0].letter.letter_offset < low:
                self._drop(letters)
        return {number: (max(low, self._next.get(number, low)), end) for number, (low, end) in ranges.items()}

    def leave_out(self, before: datetime) -> None:
        """Letters that were refused before that time are not read."""
        self._forgotten(before - timedelta.resolution)

    def take(self, partition: int, offset: int, letter: Letter | None) -> None:
        """Takes the next record of a partition; None for one that is not a dead letter."""
        self._next[partition] = offset + 1
        if letter is None:
            return
        one = remembered(letter)
        self._letters.setdefault(partition, deque()).append(one)
        self.count += 1
        self.size += one.size
        while self.count > self._most or self.size > self._most_bytes:
            held = (letters for letters in self._letters.values() if letters)
            self._forgotten(self._drop(min(held, key=_refused_first)))

    def reached(self, ranges: Mapping[int, Range]) -> None:
        """All records of these ranges were handed over, as far as there still are any."""
        for number, (_, end) in ranges.items():
            self._next[number] = max(end, self._next.get(number, 0))

    def letters(self) -> list[Remembered]:
        """All letters that are remembered, in Kafka's order."""
        return list(chain.from_iterable(self._letters.values()))

    def _drop(self, letters: deque[Remembered]) -> datetime:
        one = letters.popleft()
        self.count -= 1
        self.size -= one.size
        return one.letter.refused_at

    def _forgotten(self, refused_at: datetime) -> None:
        self._left_out = max(self._left_out, refused_at)
        self._all = False


def matching(letters: list[Remembered], filters: Filters) -> Iterator[Remembered]:
    """Each of these letters that is meant, once."""
    seen: set[LetterId] = set()
    for one in letters:
        letter = one.letter
        if (
            filters.match_refusal(letter.error_type, letter.refused_at)
            and filters.match_source(one.source)
            and letter.id not in seen
        ):
            seen.add(letter.id)
            yield one


def remembered(letter: Letter) -> Remembered:
    """The letter as it is remembered."""
    source = letter.source
    kept = letter._replace(
        topic=sys.intern(letter.topic),
        error_type=sys.intern(letter.error_type),
        error=sys.intern(letter.error),
        payload=cut(letter.payload),
        elements=(),
    )
    texts = (kept.id.key, kept.topic, kept.error, kept.error_type, kept.traceparent, kept.content_type)
    size = _FRAME_BYTES + len(kept.payload) + sum(map(sys.getsizeof, (*texts, kept.owner)))
    return Remembered(kept, len(letter.payload), source, group(letter, source), unhandled(letter), size)


def group(letter: Letter, source: Source | None) -> Group:
    """The group of a letter from there."""
    at = letter.refused_at
    with suppress(OverflowError):  # the first and the last hours that there are, which only a stranger names
        at = at.astimezone(UTC)
    hour = at.replace(minute=0, second=0, microsecond=0)
    return _same(Group(letter.error_type, *(source or ("", "")), hour))


@lru_cache(maxsize=10_000)
def _same(group: Group) -> Group:
    # One object for all letters of a group takes less memory, and less time to compare.
    return group


def cut(payload: bytes) -> bytes:
    """The first `MOST_PAYLOAD_BYTES` or a little less: never a part of a character of UTF-8."""
    if len(payload) <= MOST_PAYLOAD_BYTES:
        return payload
    end = MOST_PAYLOAD_BYTES
    # Not inside a character of UTF-8: its further bytes begin with the bits 10.
    while end > MOST_PAYLOAD_BYTES - 3 and payload[end] & 0xC0 == 0x80:
        end -= 1
    return payload[:end]


def _refused_first(letters: deque[Remembered]) -> datetime:
    return letters[0].letter.refused_at
