"""The lanes of the bridge: which messages go into which batch, and which offsets are done. Pure, without I/O.

A lane is a set of partitions of one domain's topic, with at most one batch in flight. While its batch runs,
its next messages gather; when the batch is done, what has gathered goes next. So a device's messages are
worked on in their order, batches grow with the load, and a commit is one number per partition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, TypeVar
from zlib import crc32

from tasks.batch import Message, Part, Verdict, pack_part
from tasks.tracing import SpanContext, is_sampled

# Whole batches that may wait in a lane before its partitions pause.
PAUSE_BATCHES = 4
MAX_RETRY_SECONDS = 10.0
# Workers are killed by chance, too: so many times in a row there must be evidence against a batch before it
# is halved, and against a single message before it is given up.
STRIKES_TO_HALVE = 2
STRIKES_TO_CONDEMN = 3

PartitionT = TypeVar("PartitionT")


class Gathered(NamedTuple):
    """A message that waits in its lane, with the Kafka key by which its batch is split."""

    key: bytes
    message: Message


@dataclass
class Limits:
    """When a batch is full, when an idle lane stops gathering, and how a batch is split."""

    messages: int
    size: int
    linger: float
    part_messages: int
    max_parts: int


@dataclass
class Batch:
    """Messages of one lane that are worked on together.

    A suspect may be what kills workers, and is sent while no other suspect is. With a verdict its messages
    are to become dead letters.
    """

    domain: str
    parts: list[bytes]
    total: int
    next_offsets: dict[int, int]
    id: str = ""
    attempt: int = 0
    retry_at: float = 0.0
    lease_missing_since: float | None = None
    sent_at: float = 0.0
    taken: Sequence[Gathered] = ()
    suspect: bool = False
    strikes: int = 0
    verdict: Verdict | None = None
    traced: bool = False
    span: SpanContext | None = None

    def pause(self, first: float) -> float:
        """Seconds before it is sent once more: doubling from `first` with each attempt, up to a maximum."""
        # Bounded before the power, too: an outage of hours makes attempts whose power is no float any more.
        return min(first * 2.0 ** min(self.attempt, 10), MAX_RETRY_SECONDS)


@dataclass
class Lane:
    """The messages that wait and the batch that is in flight."""

    limits: Limits
    domain: str
    incarnation: str = ""  # of the topic; see `tasks.batch.Part`
    batch: Batch | None = None
    waiting: list[Gathered] = field(default_factory=list)
    waiting_size: int = 0
    waiting_since: float = 0.0
    halves: list[Batch] = field(default_factory=list)

    def gather(self, gathered: Gathered, now: float) -> None:
        """Takes a message over. A full lane takes it, too: what the client has fetched must go somewhere."""
        if not self.waiting:
            self.waiting_since = now
        self.waiting.append(gathered)
        self.waiting_size += len(gathered.message.payload)

    @property
    def full(self) -> bool:
        """Whether a whole batch waits."""
        return self.holds(1)

    def holds(self, batches: int) -> bool:
        """Whether so many whole batches wait."""
        limits = self.limits
        return len(self.waiting) >= batches * limits.messages or self.waiting_size >= batches * limits.size

    def ready(self, now: float) -> bool:
        """Whether the next batch can be taken: nothing in flight, and enough gathered or waited.

        The time behind a batch in flight counts as waiting: under load nothing lingers, and with little to
        do a lane sends no more than a batch per linger.
        """
        if self.batch is not None:
            return False
        if self.halves:
            return True
        if not self.waiting:
            return False
        return self.full or now - self.waiting_since >= self.limits.linger

    def take(self) -> Batch:
        """Puts the next batch in flight."""
        if self.halves:
            self.batch = self.halves.pop()
            return self.batch
        sizes = [len(message.payload) for _, message in self.waiting[: self.limits.messages]]
        if sum(sizes) > self.limits.size:
            # One message alone may be larger than a batch should be.
            fitting = sum(size <= self.limits.size for size in accumulate(sizes))
            sizes = sizes[: max(fitting, 1)]
        taken = self.waiting[: len(sizes)]
        del self.waiting[: len(sizes)]
        self.waiting_size -= sum(sizes)
        self.batch = make_batch(self.domain, taken, self.limits, self.incarnation)
        return self.batch

    def finish(self) -> dict[int, int]:
        """Ends the batch in flight and returns the offset to commit for each of its partitions."""
        assert self.batch is not None
        next_offsets = self.batch.next_offsets
        self.batch = None
        return next_offsets

    def lost(self, evidence: Verdict | None) -> Batch:
        """Notes that the batch in flight has vanished; returns what to send in its place.

        Where there is evidence against its messages, again and again, that is its first half, behind which
        the second waits; and in the end the single message with its verdict. Without evidence nothing is held
        against it.
        """
        assert self.batch is not None
        batch = self.batch
        if batch.verdict is not None:
            return batch
        batch.suspect = evidence is not None
        batch.strikes = batch.strikes + 1 if evidence is not None else 0
        if batch.total == 1:
            if batch.strikes >= STRIKES_TO_CONDEMN:
                batch.suspect, batch.verdict = False, evidence
        elif batch.strikes >= STRIKES_TO_HALVE:
            middle = batch.total // 2
            self.batch = self._half(batch.taken[:middle])
            self.halves.append(self._half(batch.taken[middle:]))
        return self.batch

    def _half(self, taken: Sequence[Gathered]) -> Batch:
        half = make_batch(self.domain, taken, self.limits, self.incarnation)
        half.suspect = True
        # The evidence against the whole counts against its halves, but not against a single message.
        half.strikes = STRIKES_TO_HALVE - 1 if half.total > 1 else 0
        return half

    def drop(self) -> None:
        """Forgets everything: none of it is committed, so it comes again to whoever owns the partitions."""
        self.batch = None
        self.halves.clear()
        self.waiting.clear()
        self.waiting_size = 0


def make_batch(domain: str, taken: Sequence[Gathered], limits: Limits, incarnation: str = "") -> Batch:
    """The messages as a batch, split into parts so that each device is in one part, in its order."""
    count = min(1 + (len(taken) - 1) // limits.part_messages, limits.max_parts)
    split: list[list[Message]] = [[] for _ in range(count)]
    first_offsets: dict[int, int] = {}
    next_offsets: dict[int, int] = {}
    for key, message in taken:
        partition, offset = message[:2]
        first_offsets.setdefault(partition, offset)
        next_offsets[partition] = offset + 1
        # Not the low bits: the partition, and so the lane, is made of them already.
        split[(crc32(key) >> 16) % count].append(message)
    return Batch(
        domain=domain,
        parts=[
            pack_part(Part(domain, first_offsets, messages, incarnation)) for messages in split if messages
        ],
        total=len(taken),
        traced=any(is_sampled(message.traceparent) for _, message in taken if message.traceparent),
        next_offsets=next_offsets,
        taken=taken,
    )


def partitions_to_pause(lanes: Mapping[PartitionT, Lane], paused: set[PartitionT]) -> set[PartitionT]:
    """Which partitions should pause, of those that have a lane.

    A lane that is far ahead of its workers pauses until less than one batch waits: the Kafka client throws
    away what it had fetched for a partition that pauses, so pausing often would be dear.
    """
    return {
        partition
        for partition, lane in lanes.items()
        if lane.holds(1 if partition in paused else PAUSE_BATCHES)
    }
