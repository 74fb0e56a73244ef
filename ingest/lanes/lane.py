"""The lanes of the bridge: which messages go into which batch, and which offsets are done. Pure, without I/O.

A lane is a set of partitions of one domain's topic, with at most one batch in flight. While its batch runs,
its next messages gather; when the batch is done, what has gathered goes next. So a device's messages are
processed in their order, batches grow with the load, and a commit is one number per partition.

Messages that a batch has deferred are set aside with all that their users send until these have caught up.
"""

import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import TypeVar
from zlib import crc32

from ingest.lanes.aside import PAUSE_SECONDS, Aside, Gathered
from tasks.batch.messages import NOTHING_DEFERRED, Deferred, Message, Part, Verdict, pack_part
from tasks.observe.tracing import SpanContext, is_sampled

# The records of one fetch come a partition at a time.
SETTLE_SECONDS = 0.005
# Whole batches that may wait in a lane before its partitions pause.
PAUSE_BATCHES = 3
# The messages and bytes, in whole batches, that may be set aside before its partitions pause.
PAUSE_ASIDE_BATCHES = 8
MAX_RETRY_SECONDS = 10.0
# Workers are also killed by chance: only this many times in a row does evidence halve a batch, or condemn a
# single message.
STRIKES_TO_HALVE = 2
STRIKES_TO_CONDEMN = 3

PartitionT = TypeVar("PartitionT")


@dataclass
class BatchLimits:
    """When a batch is full, how soon (s) one may follow another that is not, and how a batch is split."""

    messages: int
    size: int
    linger: float
    part_messages: int
    max_parts: int


@dataclass
class Batch:
    """Messages of one lane that are worked on together.

    A suspect may be what kills workers; only one suspect at a time is sent. With a `verdict` its message
    becomes a dead letter, unless its row is stored; with `blind` nobody looks for the row, because workers
    have died of looking.
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
    sent_in: bytes = b""  # the run of Redis
    taken: Sequence[Gathered] = ()
    suspect: bool = False
    strikes: int = 0
    verdict: Verdict | None = None
    blind: bool = False
    traced: bool = False
    span: SpanContext | None = None

    def pause(self, first: float) -> float:
        """Seconds before it is sent once more: doubling from `first` with each attempt, up to a maximum."""
        # Bounded before the power, too: after an outage of hours the power would overflow a float.
        return min(first * 2.0 ** min(self.attempt, 10), MAX_RETRY_SECONDS)


@dataclass
class Lane:
    """The messages that wait and the batch that is in flight."""

    limits: BatchLimits
    domain: str
    incarnation: str = ""  # of the topic; see `tasks.batch.messages.Part`
    batch: Batch | None = None
    waiting: list[Gathered] = field(default_factory=list)
    waiting_size: int = 0
    waiting_since: float = 0.0
    taken_at: float = -math.inf
    halves: list[Batch] = field(default_factory=list)
    aside: Aside = field(default_factory=Aside)
    # By partition, the offset after its last finished message; kept only while they may finish out of order.
    _reached: dict[int, int] = field(default_factory=dict)
    _in_order: bool = True

    def gather(self, gathered: Gathered, now: float) -> None:
        """Takes a message over. A full lane takes it, too: what the client has fetched must go somewhere."""
        if self.aside and gathered.user in self.aside:
            self.aside.append(gathered)
            return
        if not self.waiting:
            self.waiting_since = now
        self.waiting.append(gathered)
        self.waiting_size += len(gathered.message.payload)

    @property
    def full(self) -> bool:
        """Whether a whole batch waits."""
        return self.holds(1)

    def holds(self, batches: int) -> bool:
        """Whether at least this many whole batches wait."""
        limits = self.limits
        return len(self.waiting) >= batches * limits.messages or self.waiting_size >= batches * limits.size

    def holds_aside(self, batches: int) -> bool:
        """Whether at least this many whole batches are set aside."""
        limits = self.limits
        return self.aside.count >= batches * limits.messages or self.aside.size >= batches * limits.size

    def ready(self, now: float) -> bool:
        """Whether the next batch can be taken: nothing in flight, and enough gathered or waited.

        A batch that is not full goes a linger after the one before at the earliest: under load a lane never
        waits, and with little to do it sends at most one batch per linger.
        """
        if self.batch is not None:
            return False
        if self.halves or self.aside.due(now):
            return True
        if not self.waiting:
            return False
        due = max(self.waiting_since + SETTLE_SECONDS, self.taken_at + self.limits.linger)
        return self.full or now >= due

    def take(self, now: float) -> Batch:
        """Puts the next batch in flight. At most half of it was set aside: others wait no longer for that."""
        self.taken_at = now
        if self.halves:
            self.batch = self.halves.pop()
            return self.batch
        limits = self.limits
        taken = self.aside.take(now, max(limits.messages // 2, 1), limits.size // 2) if self.aside else []
        room = limits.size - sum(len(message.payload) for _, message in taken)
        sizes = [len(message.payload) for _, message in self.waiting[: limits.messages - len(taken)]]
        if sum(sizes) > room:
            # One message alone may be larger than a batch should be.
            fitting = sum(size <= room for size in accumulate(sizes))
            sizes = sizes[: fitting if taken else max(fitting, 1)]
        taken += self.waiting[: len(sizes)]
        del self.waiting[: len(sizes)]
        self.waiting_size -= sum(sizes)
        self.batch = self._make(taken)
        return self.batch

    def finish(self, deferred: Deferred = NOTHING_DEFERRED, now: float = 0.0) -> dict[int, int]:
        """Ends the batch in flight, but for the deferred messages, which go with later ones.

        Returns the offset to commit for each of its partitions: that of the first unfinished message,
        or the one after the last finished message.
        """
        assert self.batch is not None
        batch, self.batch = self.batch, None
        if self._in_order and not any(deferred):
            return batch.next_offsets
        self._in_order = False
        finished: list[Gathered] = []
        unfinished: dict[bytes, list[Gathered]] = {}
        held: set[bytes] = set()
        for gathered in batch.taken:
            position = gathered.message[:2]
            if position in deferred.soon or position in deferred.held:
                unfinished.setdefault(gathered.user, []).append(gathered)
                if position in deferred.held:
                    held.add(gathered.user)
            else:
                finished.append(gathered)
        self._set_aside(unfinished, held, Counter(one.user for one in finished), now)
        for _, (partition, offset, *_) in finished:
            self._reached[partition] = max(offset + 1, self._reached.get(partition, 0))
        least = self._least_unfinished()
        commits = {
            partition: min(self._reached[partition], least.get(partition, self._reached[partition]))
            for partition in batch.next_offsets.keys() & self._reached.keys()
        }
        if not (self.aside or self.halves) and all(
            least.get(partition, reached) >= reached for partition, reached in self._reached.items()
        ):
            self._in_order = True
            self._reached.clear()
        return commits

    def _set_aside(
        self, unfinished: dict[bytes, list[Gathered]], held: set[bytes], finished: Counter[bytes], now: float
    ) -> None:
        """Sets messages aside, and behind them what else the lane has of their users."""
        self.aside.went_on(finished.keys() - unfinished.keys())
        if not unfinished:
            return
        for half in reversed(self.halves):
            for gathered in half.taken:
                if gathered.user in unfinished:
                    unfinished[gathered.user].append(gathered)
        if unfinished.keys() - {user for user in unfinished if user in self.aside}:
            for gathered in self.waiting:
                if gathered.user in unfinished:
                    unfinished[gathered.user].append(gathered)
            self.waiting = [one for one in self.waiting if one.user not in unfinished]
            self.waiting_size = sum(len(one.message.payload) for one in self.waiting)
        for user, messages in unfinished.items():
            self.aside.put_back(user, messages, finished[user], now + PAUSE_SECONDS if user in held else now)
        # Only now, when what is set aside counts among the unfinished.
        self.halves = [rest for half in self.halves if (rest := self._without(half, unfinished))]

    def _without(self, half: Batch, users: Container[bytes]) -> Batch | None:
        kept = [gathered for gathered in half.taken if gathered.user not in users]
        if len(kept) == half.total:
            return half
        if not kept:
            return None
        rest = self._make(kept)
        rest.suspect, rest.strikes = half.suspect, half.strikes
        return rest

    def _make(self, taken: Sequence[Gathered]) -> Batch:
        floors = {} if self._in_order else self._least_unfinished(taken)
        return make_batch(self.domain, taken, self.limits, self.incarnation, floors)

    def _least_unfinished(self, taken: Sequence[Gathered] = ()) -> dict[int, int]:
        """For each partition, the lowest offset that the lane still holds, or that was just taken."""
        flying = [] if self.batch is None else [self.batch]
        least: dict[int, int] = {}
        batches = (batch.taken for batch in (*self.halves, *flying))
        for _, (partition, offset, *_) in chain(taken, self.waiting, self.aside, *batches):
            if offset < least.get(partition, offset + 1):
                least[partition] = offset
        return least

    def lost(self, evidence: Verdict | None) -> Batch:
        """Notes that the batch in flight has vanished; returns what to send in its place.

        After repeated evidence against its messages that is its first half, and the second waits; a batch of
        one message gets a verdict instead. Without evidence it is the batch as it was.
        """
        assert self.batch is not None
        batch = self.batch
        if batch.verdict is not None:
            batch.strikes += evidence is not None
            if batch.strikes >= STRIKES_TO_CONDEMN + STRIKES_TO_HALVE:
                batch.suspect, batch.blind = False, True
            return batch
        batch.suspect = evidence is not None
        batch.strikes = batch.strikes + 1 if evidence is not None else 0
        if batch.total == 1:
            if batch.strikes >= STRIKES_TO_CONDEMN:
                batch.verdict = evidence
        elif batch.strikes >= STRIKES_TO_HALVE:
            middle = batch.total // 2
            first, second = self._half(batch.taken[:middle]), self._half(batch.taken[middle:])
            self.batch = first
            self.halves.append(second)
        return self.batch

    def _half(self, taken: Sequence[Gathered]) -> Batch:
        # A half that waits is not the first to finish, and what the other defers comes again.
        half = make_batch(self.domain, taken, self.limits, self.incarnation, self._least_unfinished(taken))
        half.suspect = True
        # The evidence against the whole counts against its halves, but not against a single message.
        half.strikes = STRIKES_TO_HALVE - 1 if half.total > 1 else 0
        return half

    def drop(self) -> None:
        """Forgets everything: none of it is committed, so it comes again to the owner of the partitions."""
        self.batch = None
        self.halves.clear()
        self.waiting.clear()
        self.waiting_size = 0
        self.aside = Aside()
        self._reached.clear()
        self._in_order = True


def make_batch(
    domain: str,
    taken: Sequence[Gathered],
    limits: BatchLimits,
    incarnation: str = "",
    floors: Mapping[int, int] | None = None,
) -> Batch:
    """The messages as a batch, split into parts so that each device is in one part, in its order.

    `floors` are the offsets below which nothing can come again, where that is not the first of the batch.
    """
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
    if floors:
        first_offsets = {partition: floors[partition] for partition in first_offsets}
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
        or lane.holds_aside(PAUSE_ASIDE_BATCHES // 2 if partition in paused else PAUSE_ASIDE_BATCHES)
    }
