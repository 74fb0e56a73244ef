"""Which records of a domain's topic have a dead letter: one bit for each record."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tasks import registry
from tasks.domain import AnyDomain
from tasks.replays.letters import LetterId
from tasks.replays.reading import letter_of
from tasks.topic_reader import Range, TopicReader

# A letter is made after its record, but not by the same clock.
CLOCKS_MS = 3_600_000

# What the bridge says of messages that killed their workers or met a bug.
CONDEMNED = frozenset(["WorkerLost", "WorkerHung", "Unexpected"])

_NUMBER = re.compile(r"[0-9]{1,19}")


class Offsets:
    """A set of offsets of one range, in an eighth of a byte each."""

    def __init__(self, reach: Range) -> None:
        self._start, self._end = reach
        self._bits = bytearray((max(0, self._end - self._start) + 7) // 8)

    def add(self, offset: int) -> bool:
        """Adds the offset if it is in the range; returns whether it was new."""
        if not self._start <= offset < self._end:
            return False
        byte, bit = divmod(offset - self._start, 8)
        new = not self._bits[byte] & (1 << bit)
        self._bits[byte] |= 1 << bit
        return new

    def __contains__(self, offset: int) -> bool:
        """Whether the offset was added."""
        if not self._start <= offset < self._end:
            return False
        byte, bit = divmod(offset - self._start, 8)
        return bool(self._bits[byte] & (1 << bit))


class Known(NamedTuple):
    """The records of one range that have a dead letter."""

    letters: Offsets
    condemned: Offsets  # those of them that a worker could not work on, for whatever reason


def letters_of(
    reader: TopicReader,
    domain: AnyDomain,
    ranges: Mapping[int, Range],
    alive: Callable[[], None] = lambda: None,
) -> dict[int, Known]:
    """The records in these ranges that have a dead letter. `alive` is called now and then."""
    known = {number: Known(Offsets(reach), Offsets(reach)) for number, reach in ranges.items()}
    topic = registry.kafka_dlq_topic(domain)
    oldest_ms = _oldest_ms(reader, registry.kafka_topic(domain), ranges)
    if oldest_ms is None:
        return known
    starts = reader.offsets_at(topic, oldest_ms - CLOCKS_MS)
    letters = {number: (max(low, starts[number]), end) for number, (low, end) in reader.ranges(topic).items()}
    for record in reader.records(topic, letters):
        alive()
        place = place_of(LetterId((record.key() or b"").decode(errors="replace"), 0))
        if place is not None and place[0] in known:
            known[place[0]].letters.add(place[1])
            letter = letter_of(record)
            if letter is not None and letter.error_type in CONDEMNED:
                known[place[0]].condemned.add(place[1])
    return known


def place_of(letter: LetterId) -> tuple[int, int] | None:
    """Partition and offset of the message that was refused; None when it never reached the topic."""
    topic, *place = letter.key.rsplit("/", 2)
    numbers = [int(number) for number in place if _NUMBER.fullmatch(number)]
    if registry.of_kafka_topic(topic) is None or len(numbers) != 2:
        return None
    return numbers[0], numbers[1]


def _oldest_ms(reader: TopicReader, topic: str, ranges: Mapping[int, Range]) -> int | None:
    firsts = []
    for number, (start, end) in ranges.items():
        for record in reader.records(topic, {number: (start, end)}):
            firsts.append(record.timestamp()[1])
            break
    return min(firsts, default=None)
