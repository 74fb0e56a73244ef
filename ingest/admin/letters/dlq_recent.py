"""Dead letters at hand: a look at them reads from Kafka only what has come since the last one."""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import NamedTuple

import structlog

from ingest.admin.errors import ServerAway
from ingest.admin.letters import dlq_acknowledge, dlq_groups
from ingest.admin.letters.dlq_groups import Groups, Shown, Timed
from ingest.admin.letters.dlq_list import kafka_away
from ingest.admin.letters.dlq_memory import Memory, Remembered, matching
from ingest.admin.letters.dlq_outcome import Judge, Standing, State, second_place
from tasks import registry
from tasks.dead_letters.letter import Filters, LetterId
from tasks.dead_letters.read import letter_of
from tasks.dead_letters.replayed import Place, Replayed
from tasks.domain.domain import AnyDomain
from tasks.errors import NotNow
from tasks.servers.topic_reader import Range, TopicReader

log = structlog.get_logger()

# Letters kept for each domain; the bytes are shared by all. A letter takes about 1 kB and its payload.
MOST_LETTERS = 50_000
MOST_BYTES = 64 * 1024 * 1024
# Of more letters than this, only the last day's are read, with an hour for its end and for clocks.
MANY = 2000
A_DAY = timedelta(hours=25)
# The most that a look takes, to wait its turn and to read, before it gets a reader of its own.
PATIENCE_SECONDS = 5.0
WARM_SECONDS = 60.0
AHEAD_KBYTES = 4096

Find = Callable[[Sequence[LetterId], datetime], Mapping[LetterId, Replayed]]
"""Those of the letters that were handled; all were refused at that time or later. May raise `ServerAway`."""


class Look(NamedTuple):
    """Letters and how each stands; without a database none counts as handled."""

    letters: list[tuple[Remembered, State]]
    database_away: str

    def opened(self) -> list[tuple[Remembered, State]]:
        """Those that are still open."""
        return [(one, state) for one, state in self.letters if state.is_open]


class Recent:
    """The newest letters of the domains. All methods may be called in any thread.

    An answer has every letter that Kafka had when it was asked. Holds a client of Kafka for each domain that
    was looked at, and at most `MOST_LETTERS` letters of each, of `MOST_BYTES` in all.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[str, _Kept] = {}

    def count(
        self, domain: AnyDomain, filters: Filters, limit: int, find: Find, *, handled: bool, seconds: float
    ) -> Groups:
        """The same as `dlq_groups.count`, which also answers about what is too old or too much to be kept."""
        begun = time.monotonic()
        look = self.look(domain, filters, find)
        if look is None:
            spent = time.monotonic() - begun
            return dlq_groups.count(domain, filters, limit, handled=handled, seconds=seconds, spent=spent)
        meant = look.letters if handled else look.opened()
        newest = heapq.nlargest(limit, meant, key=_refused_at)
        return Groups(
            # There are never more groups than letters.
            Counter(one.group for one, _ in meant),
            [Shown(Standing(one.letter, state), one.payload_bytes) for one, state in reversed(newest)],
            look.database_away,
        )

    def select(
        self, domain: AnyDomain, filters: Filters, most: int, find: Find, *, seconds: float
    ) -> set[LetterId]:
        """The same as `dlq_acknowledge.select`, likewise."""
        begun = time.monotonic()
        look = self.look(domain, filters, find)
        if look is None:
            spent = time.monotonic() - begun
            return dlq_acknowledge.select(domain, filters, most, lambda: Timed(seconds, spent))
        if look.database_away:
            raise dlq_acknowledge.unknown_which(look.database_away)
        return dlq_acknowledge.at_most(most, {one.letter.id for one, _ in look.opened()})

    def look(self, domain: AnyDomain, filters: Filters, find: Find) -> Look | None:
        """The letters that match, each once; None if not all are at hand, or it takes too long.

        Raises `ServerAway` when Kafka is away, and what `find` raises, but for `ServerAway`.
        """
        found = self._of(domain).letters(filters.since)
        if found is None:
            return None
        letters, committed = found
        return _judged(
            matching(letters, filters), Judge(committed, _refused_again(letters, filters.since)), find
        )

    def with_key(self, domain: AnyDomain, filters: Filters, key: str, find: Find) -> Look | None:
        """The letters in memory with this key that match; None if one may be missing, likewise."""
        kept = self._of(domain)
        found = kept.letters(datetime.now(UTC))
        if found is None:
            return None
        letters, committed = found
        meant = list(matching([one for one in letters if one.letter.id.key == key], filters))
        if not meant and not kept.has_all():
            return None
        return _judged(meant, Judge(committed, _refused_again(letters, None)), find)

    def warm(self, domains: Iterable[AnyDomain]) -> None:
        """Reads the letters of the last day, so that the first look need not; gives up after a minute."""
        deadline = time.monotonic() + WARM_SECONDS
        for domain in domains:
            try:
                while time.monotonic() < deadline and not self._of(domain).read():
                    pass
            except ServerAway as error:
                log.info("dead_letters_not_read", domain=domain.name, error=str(error))

    def close(self) -> None:
        """Ends the connections that are not in use."""
        with self._lock:
            for one in self._kept.values():
                one.close()

    def _of(self, domain: AnyDomain) -> "_Kept":
        with self._lock:
            return self._kept.setdefault(domain.name, _Kept(domain))


class _Kept:
    """The letters of one domain, and the reader that reads them, one thread at a time."""

    def __init__(self, domain: AnyDomain) -> None:
        self._topic = registry.kafka_topic(domain)
        self._dlq_topic = registry.kafka_dlq_topic(domain)
        self._turn = Lock()
        self._memory = Memory(MOST_LETTERS, MOST_BYTES // len(registry.domains()))
        self._was_read = False
        self._reader: TopicReader | None = None

    def letters(self, since: datetime | None) -> tuple[list[Remembered], Mapping[int, int]] | None:
        """All that are at hand, and the offsets that the bridge had committed before they were read.

        None if there may be others that were refused since then, or it takes too long. Raises `ServerAway`.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        if not self._turn.acquire(timeout=PATIENCE_SECONDS):
            return None
        try:
            if self._was_read and not self._memory.covers(since):
                return None
            committed = self._read(deadline)
            if committed is None or not self._memory.covers(since):
                return None
            return self._memory.letters(), committed
        finally:
            self._turn.release()

    def has_all(self) -> bool:
        """Whether no letter that Kafka has was left out."""
        return self._memory.covers(None)

    def read(self) -> bool:
        """Reads what is new, as far as there is time; whether that was all. Raises `ServerAway`."""
        with self._turn:
            return self._read(time.monotonic() + PATIENCE_SECONDS) is not None

    def close(self) -> None:
        """Ends the connection, unless it is in use."""
        if self._turn.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._turn.release()

    def _end(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _read(self, deadline: float) -> Mapping[int, int] | None:
        """Reads what is new; the bridge's offsets from before, or None if the time was too short."""
        if self._reader is not None:
            try:
                return self._read_by(self._reader, deadline)
            except NotNow as error:
                # A new client finds its way to servers that have moved, and to a topic that was made again.
                self._end()
                if time.monotonic() > deadline:
                    raise kafka_away(error) from error
        self._reader = TopicReader(AHEAD_KBYTES)
        try:
            return self._read_by(self._reader, deadline)
        except NotNow as error:
            self._end()
            raise kafka_away(error) from error

    def _read_by(self, reader: TopicReader, deadline: float) -> Mapping[int, int] | None:
        # A letter is sent before the bridge commits, so it is there after the commit.
        committed = reader.committed(self._topic)
        if not self._read_news(reader, deadline):
            return None
        self._was_read = True
        return committed

    def _read_news(self, reader: TopicReader, deadline: float) -> bool:
        topic_id = reader.topic_id(self._dlq_topic)
        news = self._memory.news(topic_id, reader.ranges(self._dlq_topic))
        if sum(end - start for start, end in news.values()) > MANY:
            news = self._of_a_day(reader, news)
        with closing(reader.records(self._dlq_topic, news)) as records:
            for record in records:
                self._memory.take(record.partition() or 0, record.offset() or 0, letter_of(record))
                if time.monotonic() > deadline:
                    return False
        self._memory.reached(news)
        return True

    def _of_a_day(self, reader: TopicReader, news: dict[int, Range]) -> dict[int, Range]:
        """The same without letters older than a day."""
        before = datetime.now(UTC) - A_DAY
        # A letter's record is never older than its refusal.
        firsts = reader.offsets_at(self._dlq_topic, int(before.timestamp() * 1000))
        if all(firsts[number] <= start for number, (start, _) in news.items()):
            return news
        self._memory.leave_out(before)
        return {number: (min(max(start, firsts[number]), end), end) for number, (start, end) in news.items()}


def _judged(letters: Iterable[Remembered], judge: Judge, find: Find) -> Look:
    meant = list(letters)
    known: Mapping[LetterId, Replayed] = {}
    database_away = ""
    if meant:
        try:
            first = min(one.letter.refused_at for one in meant)
            known = find([one.letter.id for one in meant], first)
        except ServerAway as error:
            database_away = " ".join(str(error).split())
    return Look([(one, _state(one, judge, known)) for one in meant], database_away)


def _state(one: Remembered, judge: Judge, known: Mapping[LetterId, Replayed]) -> State:
    entry = known.get(one.letter.id)
    return one.unhandled if entry is None else judge.state(one.letter, entry)


def _refused_again(letters: Iterable[Remembered], since: datetime | None) -> set[Place]:
    again = (one.letter for one in letters if one.letter.attempts > 1)
    meant = (letter for letter in again if since is None or letter.refused_at >= since)
    return {place for letter in meant if (place := second_place(letter))}


def _refused_at(standing: tuple[Remembered, State]) -> datetime:
    return standing[0].letter.refused_at
