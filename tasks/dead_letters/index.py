"""Which records of a domain's topic have a dead letter."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tasks import registry
from tasks.batch.messages import Message
from tasks.dead_letters.letter import LetterId
from tasks.dead_letters.read import letter_of
from tasks.domain.domain import AnyDomain
from tasks.servers.topic_reader import Range, TopicReader

# A letter is made after its record, but by another clock, which may be off by this much.
CLOCKS_MS = 3_600_000

# The bridge's error types for messages that killed their workers or met a bug.
CONDEMNED = frozenset(["WorkerLost", "WorkerHung", "Unexpected"])

_NUMBER = re.compile(r"[0-9]{1,19}")


class Letters:
    """Records of one range that have a dead letter, each by its offset and its timestamp.

    In a recreated topic offsets come again. Takes about 100 bytes for each.
    """

    def __init__(self, reach: Range) -> None:
        self._start, self._end = reach
        self._known: set[int] = set()

    def add(self, offset: int, record_ms: int) -> None:
        """Adds the record if it is in the range; the timestamp is 0 if the letter does not have it."""
        if self._start <= offset < self._end:
            self._known.add(_packed(offset, record_ms))

    def __contains__(self, message: Message) -> bool:
        """Whether the message has one of the letters."""
        offset = message.offset
        return not self._known.isdisjoint((_packed(offset, message.timestamp_ms), _packed(offset, 0)))


def _packed(offset: int, record_ms: int) -> int:
    # One number takes a third of the memory of a pair. No timestamp of Kafka has more than 64 bits.
    return (offset << 64) + record_ms


class Known(NamedTuple):
    """The records of one range that have a dead letter."""

    letters: Letters
    condemned: Letters  # those that a worker could not work on, for whatever reason


def letters_of(
    reader: TopicReader,
    domain: AnyDomain,
    ranges: Mapping[int, Range],
    alive: Callable[[], None] = lambda: None,
) -> dict[int, Known]:
    """The records in these ranges that have a dead letter. `alive` is called periodically."""
    known = {number: Known(Letters(reach), Letters(reach)) for number, reach in ranges.items()}
    topic = registry.kafka_dlq_topic(domain)
    oldest_ms = _oldest_ms(reader, registry.kafka_topic(domain), ranges)
    if oldest_ms is None:
        return known
    starts = reader.offsets_at(topic, oldest_ms - CLOCKS_MS)
    letters = {number: (max(low, starts[number]), end) for number, (low, end) in reader.ranges(topic).items()}
    for record in reader.records(topic, letters):
        alive()
        letter = letter_of(record)
        place = None if letter is None else place_of(letter.id)
        if letter is not None and place is not None and place[0] in known:
            found = known[place[0]]
            found.letters.add(place[1], letter.id.record_ms)
            if letter.error_type in CONDEMNED:
                found.condemned.add(place[1], letter.id.record_ms)
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
