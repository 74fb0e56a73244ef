"""Looks at the letters at hand, by many threads, while Kafka and the database come and go."""

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event, Lock
from typing import Any

import pytest

from ingest.admin.errors import ServerAway
from ingest.admin.letters import dlq_groups, dlq_recent
from ingest.admin.letters.dlq_groups import Groups
from ingest.admin.letters.dlq_outcome import State
from ingest.admin.letters.dlq_recent import Look, Recent
from tasks import registry
from tasks.dead_letters.letter import Filters, LetterId
from tasks.dead_letters.replayed import ACKNOWLEDGED, Replayed
from tasks.errors import NotNow
from tasks.servers.topic_reader import Range
from tests.unit.ingest.admin.letters import letter

NOW = datetime.now(UTC)
DAY = Filters(since=NOW - timedelta(days=1))


class Record:
    """A record of the only partition."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def partition(self) -> int:
        """The only one."""
        return 0

    def offset(self) -> int:
        """Its place."""
        return self._offset


class Kafka:
    """A broker whose topic has one letter of each minute up to now; `made` counts its clients."""

    def __init__(self) -> None:
        self.end = 5
        self.away = False
        self.made = self.closed = self.read = self.reading = self.most_reading = 0
        self.slow: Event | None = None
        self._lock = Lock()

    def grown(self) -> int:
        """How many letters there are when one more has come."""
        with self._lock:
            self.end += 1
            return self.end

    def client(self, _ahead: int) -> "Kafka":
        """One more reader."""
        self.made += 1
        return self

    def close(self) -> None:
        """The reader is done."""
        self.closed += 1

    def committed(self, _topic: str) -> dict[int, int]:
        """The bridge is far behind all letters."""
        if self.away:
            raise NotNow("no answer")
        return {0: 0}

    def topic_id(self, _topic: str) -> str:
        """Always the same."""
        return "a"

    def ranges(self, _topic: str) -> dict[int, Range]:
        """All that there is."""
        return {0: (0, self.end)}

    def offsets_at(self, _topic: str, _time_ms: int) -> dict[int, int]:
        """The last two days are the last 2,880 letters."""
        return {0: self.end - 25 * 60}

    def records(self, _topic: str, ranges: Mapping[int, Range]) -> Generator[Record, None, None]:
        """The records, by one thread at a time."""
        with self._lock:
            self.reading += 1
            self.most_reading = max(self.reading, self.most_reading)
        if self.slow is not None:
            self.slow.wait(20)
        for offset in range(*ranges[0]):
            self.read += 1
            yield Record(offset)
        with self._lock:
            self.reading -= 1

    def letter(self, record: Record) -> Any:
        """The letter of a record."""
        return letter(record.offset(), refused_at=NOW - timedelta(minutes=self.end - record.offset()))


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    """The broker that all readers read."""
    broker = Kafka()
    monkeypatch.setattr(dlq_recent, "TopicReader", broker.client)
    monkeypatch.setattr(dlq_recent, "letter_of", broker.letter)
    return broker


def nothing(_letters: Sequence[LetterId], _since: datetime) -> dict[LetterId, Replayed]:
    """No letter was handled."""
    return {}


def look(recent: Recent, filters: Filters = DAY, find: dlq_recent.Find = nothing) -> Look:
    """The letters in memory."""
    found = recent.look(registry.default(), filters, find)
    assert found is not None
    return found


def test_a_second_look_reads_only_what_is_new(kafka: Kafka) -> None:
    """By the client of the first."""
    recent = Recent()
    assert len(look(recent).letters) == 5
    kafka.end += 2
    assert len(look(recent).letters) == 7
    assert len(look(recent).letters) == 7
    assert (kafka.read, kafka.made) == (7, 1)


def test_one_reads_at_a_time_and_each_sees_all(kafka: Kafka) -> None:
    """Many threads ask while letters come."""
    recent = Recent()

    def ask(_: int) -> bool:
        least = kafka.grown()
        return len(look(recent).letters) >= least

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))
    assert kafka.most_reading == 1
    assert len(look(recent).letters) == kafka.end


def test_who_waits_too_long_for_a_turn_reads_alone(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is slow with one look does not hold up the others for longer than their patience."""
    monkeypatch.setattr(dlq_recent, "PATIENCE_SECONDS", 0.2)
    alone = Groups(database_away="read alone")
    monkeypatch.setattr(dlq_groups, "count", lambda *_, **__: alone)
    recent = Recent()
    kafka.slow = Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(recent.look, registry.default(), DAY, nothing)
        while not kafka.reading:
            pass
        counted = recent.count(registry.default(), DAY, 10, nothing, handled=False, seconds=9)
        recent.close()
        kafka.slow.set()
        # Its own time is over, too.
        assert first.result(10) is None
    assert counted is alone
    assert len(look(recent).letters) == 5
    assert (kafka.read, kafka.closed) == (5, 0)


def test_kafka_away_is_said_and_the_next_look_has_a_new_client(kafka: Kafka) -> None:
    """Letters that were read before are not read again."""
    recent = Recent()
    look(recent)
    kafka.away = True
    with pytest.raises(ServerAway, match=r"Kafka at .* does not answer: no answer"):
        look(recent)
    recent.warm([registry.default()])
    assert (kafka.made, kafka.closed) == (3, 3)
    kafka.away = False
    kafka.end += 1
    assert len(look(recent).letters) == 6
    assert (kafka.read, kafka.made) == (6, 4)
    recent.close()
    assert kafka.closed == 4


def test_of_many_letters_the_last_day_is_at_hand(kafka: Kafka) -> None:
    """Read once, before anybody asks; who asks for more is answered by a read of the topic."""
    kafka.end = 10_000
    recent = Recent()
    recent.warm([registry.default()])
    assert kafka.read == 25 * 60
    # The letters are a minute apart, the newest is a minute old.
    assert len(look(recent).letters) in {24 * 60 - 1, 24 * 60}
    for older in (Filters(), Filters(since=NOW - timedelta(days=2))):
        assert recent.look(registry.default(), older, nothing) is None
    assert kafka.read == 25 * 60


def test_the_states_are_those_of_the_moment(kafka: Kafka) -> None:  # noqa: ARG001 - the broker
    """The database is asked at each look, for the letters that are meant; without it all count as open."""
    recent = Recent()
    asked: list[Sequence[LetterId]] = []

    def closed(letters: Sequence[LetterId], since: datetime) -> dict[LetterId, Replayed]:
        assert since == NOW - timedelta(minutes=5)
        asked.append(letters)
        return {letters[0]: Replayed("run", ACKNOWLEDGED), letters[1]: Replayed("run", (0, 99))}

    found = look(recent, find=closed)
    assert counts(found) == {State.ACKNOWLEDGED: 1, State.IN_FLIGHT: 1, State.OPEN: 3}
    assert len(asked[0]) == 5
    assert len(found.opened()) == 3
    opened = recent.select(registry.default(), DAY, 10, closed, seconds=9)
    assert opened == {one.letter.id for one, _ in found.opened()}
    with pytest.raises(dlq_groups.TooManyLetters, match="more than 2 "):
        recent.select(registry.default(), DAY, 2, closed, seconds=9)
    for handled, total in ((False, 3), (True, 5)):
        groups = recent.count(registry.default(), DAY, 2, closed, handled=handled, seconds=9)
        assert groups.counts.total() == total
        assert [one.standing.letter.offset for one in groups.newest] == [3, 4]

    def away(_letters: Sequence[LetterId], _since: datetime) -> dict[LetterId, Replayed]:
        raise ServerAway("it\nis away")

    assert look(recent, find=away).database_away == "it is away"
    assert recent.count(registry.default(), DAY, 2, away, handled=False, seconds=9).counts.total() == 5
    with pytest.raises(ServerAway, match="which letters are open: it is away"):
        recent.select(registry.default(), DAY, 10, away, seconds=9)


def counts(found: Look) -> dict[State, int]:
    """How many letters stand how."""
    states = [state for _, state in found.letters]
    return {state: states.count(state) for state in states}
