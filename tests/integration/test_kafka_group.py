"""Kafka on three machines: clients leave a silent broker, and go on with the partitions' new leaders."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from compose.local import preparation
from ingest.partitions import group_consumer
from ingest.partitions.topic_ids import TopicIds
from tasks.dead_letters import sender
from tasks.servers import kafka
from tasks.settings import settings
from tests.integration.fleet import wait_until
from tests.integration.kafka_group import KafkaGroup, kafka_group

pytestmark = pytest.mark.timeout(300)

# Until the others know that the broker is lost, and the client asks them.
ELSEWHERE_SECONDS = 25.0
TOPIC = "iot-stream"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaGroup]:
    """Three brokers with Sluice's topics."""
    with kafka_group(tmp_path_factory.mktemp("brokers")) as group:
        preparation.topics(group.settings)
        yield group


@pytest.fixture
def group(servers: KafkaGroup, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaGroup]:
    """The brokers, whole; this process finds them by its settings."""
    for name, value in servers.settings.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    servers.await_whole()
    yield servers
    sender.close()
    settings.cache_clear()
    for machine in servers.machines:
        machine.resume()
        machine.reconnect()


def to_each(producer: Producer, word: bytes, failed: list[str]) -> None:
    """A record for each partition."""

    def confirm(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failed.append(str(error))

    for number in range(settings().kafka_partitions):
        producer.produce(TOPIC, word, partition=number, on_delivery=confirm)


@pytest.mark.parametrize("how", ["hang", "deafen"])
def test_a_producer_goes_on_with_the_new_leaders(group: KafkaGroup, how: str) -> None:
    """Also for what it had sent to the silent broker already: it is confirmed, and not lost."""
    producer, failed = sender.kafka_producer(), list[str]()
    to_each(producer, b"before", failed)
    assert producer.flush(30) == 0
    getattr(group.leader(), how)()
    to_each(producer, b"after", failed)
    assert producer.flush(ELSEWHERE_SECONDS) == 0, f"{len(producer)} records are not confirmed"
    assert failed == []


def test_the_bridges_consumer_goes_on_with_the_new_leaders(group: KafkaGroup) -> None:
    """Its connection to the hung broker stays open."""
    consumer = group_consumer.connect(settings(), TopicIds(), lambda _: None, lambda *_: None)
    consumer.assign([TopicPartition(TOPIC, n, 0) for n in range(settings().kafka_partitions)])
    try:
        struck = group.leader()
        _read(consumer, group, b"before", 20)
        struck.hang()
        # A client that is new finds the new leaders by itself.
        _read(consumer, group, b"after", ELSEWHERE_SECONDS + 10)
    finally:
        consumer.close()


def _read(consumer: Consumer, group: KafkaGroup, word: bytes, seconds: float) -> None:
    producer = Producer({**kafka.connection(settings()), "acks": "all"})
    to_each(producer, word, [])
    found = set[int | None]()

    def read() -> bool:
        producer.poll(0)
        for record in consumer.consume(100, 0.2):
            if record.error() is None and record.value() == word:
                found.add(record.partition())
        return len(found) == settings().kafka_partitions

    wait_until(read, seconds, f"{word!r} of each partition, {group.settings}")
