"""The dead letters that `web` has at hand: at each look what a read of the whole topic finds."""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from compose.local.stack import Stack
from ingest.admin.letters import dlq_list, dlq_one
from ingest.admin.letters.dlq_list import NoDeadLetter
from ingest.admin.letters.dlq_outcome import Standing, State
from ingest.admin.letters.dlq_recent import Recent
from tasks import registry, settings
from tasks.dead_letters import envelope, replayed
from tasks.dead_letters.letter import Filters, LetterId
from tests.integration.changes import Database
from tests.integration.fleet import wait_until
from tests.records import end_offset

PARTITIONS = 3
# No record of the telemetry topic has them.
FIRST = 10**9
NOW = datetime.now(UTC)


class Letters:
    """A topic of dead letters of the test's own, and the two ways to look at it."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self.name = f"recent-{uuid4().hex[:8]}"
        self.recent = Recent()
        self._database = database
        self._servers = stack.env["KAFKA_BOOTSTRAP_SERVERS"]
        self._admin = AdminClient({"bootstrap.servers": self._servers})
        self._producer = Producer({"bootstrap.servers": self._servers, "acks": "all"})
        self.at_ms = int(time.time() * 1000)

    def create(self) -> None:
        """Makes the topic."""
        self._admin.create_topics([NewTopic(self.name, PARTITIONS, 1)])[self.name].result(30)
        consumer = Consumer({"bootstrap.servers": self._servers, "group.id": self.name})
        ends = [end_offset(consumer, self.name, number) for number in range(PARTITIONS)]
        assert ends == [0] * PARTITIONS
        consumer.close()

    def delete(self) -> None:
        """Deletes it, and waits until it is gone."""
        self._admin.delete_topics([self.name])[self.name].result(30)
        wait_until(lambda: self.name not in self._admin.list_topics(timeout=10).topics, 30, "its end")

    def send(self, *numbers: int, attempts: int = 1, user: str = "ada") -> None:
        """Letters of the messages with these numbers; returns when Kafka has them."""
        for number in numbers:
            place = FIRST + number
            value = envelope.envelope(
                f"users/{user}/devices/d{number % 2}/telemetry",
                b"[]" * number,
                ("InvalidJson", "MissingField")[number % 2],
                "said why",
                attempts=attempts,
                kafka_topic="iot-stream",
                kafka_partition=0,
                kafka_offset=place,
                kafka_timestamp_ms=self.at_ms,
            )
            key = envelope.key("iot-stream", 0, place)
            self._producer.produce(self.name, value, key, number % PARTITIONS)
        assert self._producer.flush(30) == 0

    def id(self, number: int) -> LetterId:
        """The letter of a message."""
        return LetterId(envelope.key("iot-stream", 0, FIRST + number).decode(), self.at_ms)

    def states(self, filters: Filters) -> dict[int, State]:
        """How each letter stands, by the number of its message: the same in both ways, or the test fails."""
        domain = registry.default()
        found: dict[int, State] = {}
        for handled in (False, True):
            listed = dlq_list.select(domain, filters, 100, handled=handled)
            groups = self.recent.count(domain, filters, 100, self._find, handled=handled, seconds=20)
            assert _told(one.standing for one in groups.newest) == _told(listed.newest)
            assert groups.counts.total() == listed.total
            by_type = {error_type: 0 for error_type, _ in listed.counts}
            for group, count in groups.counts.items():
                by_type[group.error_type] += count
            assert by_type == {
                error_type: sum(count for (one, _), count in listed.counts.items() if one == error_type)
                for error_type in by_type
            }
            opened = self.recent.select(domain, filters, 100, self._find, seconds=20)
            assert opened == {one.letter.id for one in listed.newest if one.state.is_open}
            found = {(one.letter.offset or 0) - FIRST: one.state for one in listed.newest}
        return found

    def at_hand(self, filters: Filters) -> bool:
        """Whether the answer did not need a read of the topic."""
        return self.recent.look(registry.default(), filters, self._find) is not None

    def whole(self, number: int, user: str = "ada") -> dict[str, Any]:
        """The whole letter of a message, for this user."""
        key = self.id(number).key
        return dlq_one.whole(self.recent, registry.default(), key, Filters(user=user), self._find, 20)

    def _find(self, letters: Sequence[LetterId], since: datetime) -> dict[LetterId, replayed.Replayed]:
        return replayed.find_many(self._database, letters, since)


def _told(standings: Iterable[Standing]) -> list[str]:
    # If a letter was sent twice, it does not matter which of the two is shown.
    return sorted(
        repr(one._replace(letter=one.letter._replace(refused_at=NOW, letter_offset=0))) for one in standings
    )


@pytest.fixture
def letters(
    stack: Stack,
    database: Database,
    on_servers: None,  # noqa: ARG001 - the servers come first
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Letters]:
    """An empty topic of dead letters, which this process takes for the domain's."""
    made = Letters(stack, database)
    made.create()
    monkeypatch.setenv("KAFKA_DLQ_TOPIC", made.name)
    settings.settings.cache_clear()
    yield made
    made.recent.close()
    made.delete()
    database.execute("DELETE FROM replayed_letters WHERE run_id = %s", [made.name])


def test_each_look_finds_what_the_command_finds(
    letters: Letters, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after new letters, a replay, a close, and when the topic was made again."""
    day = Filters(since=datetime.now(UTC) - timedelta(days=1))
    assert letters.states(day) == {}
    letters.send(*range(8))
    letters.send(0)
    assert letters.states(day) == dict.fromkeys(range(8), State.OPEN)
    letters.send(8, 9, user="bob")
    letters.send(10, attempts=3)
    assert letters.states(day) == {**dict.fromkeys(range(10), State.OPEN), 10: State.EXHAUSTED}
    assert letters.states(Filters(since=day.since, user="bob", device="d1")) == {9: State.OPEN}
    assert letters.states(Filters(since=day.since, error_type="InvalidJson", until=datetime.now(UTC)))
    assert letters.states(Filters(since=datetime.now(UTC))) == {}

    replayed.acknowledge(database, letters.name, [letters.id(1)])
    replayed.reserve(database, letters.name, [letters.id(number) for number in (2, 3, 4)])
    replayed.confirm(
        database,
        {letters.id(3): (0, FIRST + 11), letters.id(4): (0, FIRST + 4), letters.id(2): (0, FIRST + 12)},
    )
    handled = {1: State.ACKNOWLEDGED, 2: State.IN_FLIGHT, 3: State.IN_FLIGHT, 4: State.STORED}
    assert letters.states(day).items() >= handled.items()
    letters.send(11, attempts=2)
    handled |= {3: State.REFUSED_AGAIN, 11: State.OPEN}
    assert letters.states(day).items() >= handled.items()
    # However many are asked for.
    monkeypatch.setattr(replayed, "AT_ONCE", 3)
    assert letters.states(day).items() >= handled.items()
    monkeypatch.setattr(replayed, "MOST_SINCE", 2)
    assert letters.states(day).items() >= handled.items()
    assert letters.at_hand(day)
    assert letters.at_hand(Filters())

    letters.delete()
    letters.create()
    letters.send(*range(20, 40))
    assert letters.states(day) == dict.fromkeys(range(20, 40), State.OPEN)
    assert letters.at_hand(day)


def test_letters_that_have_no_room_are_read_from_the_topic(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is the same; who asks for those that have room still gets them from memory."""
    monkeypatch.setattr("ingest.admin.letters.dlq_recent.MOST_LETTERS", 5)
    letters.send(*range(6))
    now = datetime.now(UTC)
    letters.send(*range(6, 9))
    newest = Filters(since=now)
    assert letters.states(Filters()) == dict.fromkeys(range(9), State.OPEN)
    assert (letters.at_hand(Filters()), letters.at_hand(newest)) == (False, True)
    assert letters.states(newest) == dict.fromkeys(range(6, 9), State.OPEN)
    letters.send(9)
    assert letters.states(newest) == dict.fromkeys(range(6, 10), State.OPEN)


def test_one_letter_is_told_whole_wherever_it_is(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """At hand or not, one that was sent twice, and by the place of its message; nobody else's is told."""
    monkeypatch.setattr("ingest.admin.letters.dlq_recent.MOST_LETTERS", 5)
    letters.send(*range(8))
    letters.send(7)
    for number in (0, 6, 7):
        told = letters.whole(number)
        assert (told["attempts"], told["payload"]) == (1, "[]" * number)
        assert (told["kafka_topic"], told["kafka_offset"]) == ("iot-stream", FIRST + number)
        assert told["state"] == State.OPEN
        with pytest.raises(NoDeadLetter):
            letters.whole(number, user="grace")
    place = dlq_one.whole(letters.recent, registry.default(), f"0/{FIRST + 6}", Filters(), lambda *_: {}, 20)
    assert place["key"] == letters.id(6).key
    with pytest.raises(NoDeadLetter):
        letters.whole(99)
