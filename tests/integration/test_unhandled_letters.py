"""The age of the oldest dead letter that nobody has handled: the alarm before Kafka's retention takes it."""

import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from compose.local.stack import Stack
from tasks import registry, settings
from tasks.dead_letters import envelope, replayed, unhandled
from tasks.dead_letters.letter import LetterId
from tasks.servers.redis_client import DEAD_LETTERS_OLDEST, client
from tests.integration.changes import Database
from tests.integration.fleet import wait_until
from tests.records import end_offset

DAY = 86_400.0


class Letters:
    """A topic of dead letters of the test's own; the letters are a day apart, the first the oldest."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self._database = database
        self._name = f"letters-{uuid4().hex[:8]}"
        self._servers = stack.env["KAFKA_BOOTSTRAP_SERVERS"]
        self._admin = AdminClient({"bootstrap.servers": self._servers})
        self._now = time.time()
        self.ids: list[LetterId] = []

    def __enter__(self) -> "Letters":
        # Kafka would drop the oldest of these records at once.
        topic = NewTopic(self._name, 2, 1, config={"retention.ms": "-1"})
        self._admin.create_topics([topic])[self._name].result(30)
        wait_until(lambda: self._name in self._admin.list_topics(timeout=10).topics, 30, "the topic")
        consumer = Consumer({"bootstrap.servers": self._servers, "group.id": self._name})
        assert [end_offset(consumer, self._name, number) for number in range(2)] == [0, 0]
        consumer.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.delete_topics([self._name])[self._name].result(30)

    @property
    def name(self) -> str:
        """The topic."""
        return self._name

    def send(self, count: int, *, partition: int = 0, days: int) -> None:
        """So many letters, the first of which came so many days ago."""
        producer = Producer({"bootstrap.servers": self._servers, "acks": "all"})
        for number in range(count):
            at_ms = int((self._now - (days - number) * DAY) * 1000)
            key = envelope.key("iot-stream", 0, 10**9 + len(self.ids))
            value = envelope.envelope(
                "users/u/devices/d/telemetry",
                b"x",
                "InvalidJson",
                "no JSON",
                kafka_topic="iot-stream",
                kafka_partition=0,
                kafka_offset=10**9 + len(self.ids),
                kafka_timestamp_ms=at_ms,
            )
            producer.produce(self._name, value, key, partition, timestamp=at_ms)
            self.ids.append(LetterId(key.decode(), at_ms))
        assert producer.flush(30) == 0

    def acknowledge(self, *numbers: int) -> None:
        """Somebody has seen these letters."""
        replayed.acknowledge(self._database, self._name, [self.ids[number] for number in numbers])

    def days(self) -> float:
        """The age that is shown after a look."""
        unhandled.watch()
        found = unhandled.oldest_seconds()
        assert found is not None
        return round(found[registry.default().name] / DAY, 2)


@pytest.fixture
def letters(
    stack: Stack,
    database: Database,
    on_servers: None,  # noqa: ARG001 - the servers come first
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Letters]:
    """An empty topic of dead letters, which this process takes for the domain's."""
    client().delete(DEAD_LETTERS_OLDEST)
    with Letters(stack, database) as made:
        monkeypatch.setenv("KAFKA_DLQ_TOPIC", made.name)
        settings.settings.cache_clear()
        yield made
    client().delete(DEAD_LETTERS_OLDEST)
    database.execute("DELETE FROM replayed_letters WHERE run_id = %s", [made.name])


def test_the_oldest_letter_that_is_neither_replayed_nor_acknowledged_counts(
    letters: Letters, database: Database
) -> None:
    """In whichever partition it is; one that is on its way counts until Kafka or a table has it."""
    assert unhandled.oldest_seconds() is None
    assert letters.days() == 0
    letters.send(3, days=20)
    letters.send(1, days=10, partition=1)
    assert letters.days() == 20
    letters.acknowledge(1)
    assert letters.days() == 20
    letters.acknowledge(0)
    assert letters.days() == 18
    replayed.reserve(database, letters.name, [letters.ids[2]])
    assert letters.days() == 18
    replayed.confirm(database, {letters.ids[2]: (0, 17)})
    assert letters.days() == 10
    letters.acknowledge(3)
    assert letters.days() == 0
    letters.send(1, days=2)
    assert letters.days() == 2


def test_a_look_reads_a_bounded_number_of_letters_and_the_next_goes_on(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the answer may be too old, and never too young."""
    monkeypatch.setattr(unhandled, "MOST_LETTERS", 4)
    letters.send(10, days=20)
    letters.acknowledge(*range(9))
    assert [letters.days() for _ in range(4)] == [16, 12, 11, 11]
    letters.acknowledge(9)
    assert letters.days() == 0


def test_what_is_no_letter_is_passed_over(letters: Letters, stack: Stack) -> None:
    """It is passed over, no matter who put it into the topic."""
    producer = Producer({"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], "acks": "all"})
    producer.produce(letters.name, b"{", b"key", 0, timestamp=1)
    assert producer.flush(30) == 0
    assert letters.days() == 0
