"""A backlog of real-looking records in Kafka, and the very same rows for the reference run."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.progress import Progress

from tasks.domain import routing
from tasks.domain.payload import Refused
from tasks.observe.tracing import child
from tasks.telemetry import DOMAIN

START = datetime(2026, 1, 1, tzinfo=UTC)
# One record in so many is cut off in the middle.
BAD_EVERY = 200
WAIT_SECONDS = 120.0


class Shape(NamedTuple):
    """How many records of how many devices. Another `run` has other times, and so other rows.

    `first` is the number of the first record: those before it may be another shape's.
    """

    records: int
    devices: int
    run: int = 0
    devices_of_a_user: int = 10
    first: int = 0
    start: datetime = START

    @property
    def bad(self) -> int:
        """How many of the records must become dead letters."""
        return (self.first + self.records) // BAD_EVERY - self.first // BAD_EVERY

    @property
    def users(self) -> list[str]:
        """The user that owns the devices."""
        return [f"user{number}" for number in range((self.devices - 1) // self.devices_of_a_user + 1)]


class Record(NamedTuple):
    """The records that a gateway would have produced."""

    topic: str
    key: bytes
    value: bytes


class Backlog(NamedTuple):
    """The records of a shape in Kafka, and the offset of each partition where they begin."""

    shape: Shape
    begins: dict[int, int]


def records(shape: Shape) -> Iterator[Record]:
    """Readings of about 250 bytes, of the devices in turn, each a second after the device's last."""
    chance = random.Random(shape.run + shape.first)
    start = shape.start + timedelta(days=shape.run)
    for number in range(shape.first, shape.first + shape.records):
        turn, device = divmod(number, shape.devices)
        user = device // shape.devices_of_a_user
        payload = {
            "sequence_id": turn,
            "time": (start + timedelta(seconds=turn, microseconds=device)).isoformat(),
            "temperature": round(chance.uniform(-20, 45), 2),
            "battery": chance.randrange(100),
            "rssi": -chance.randrange(40, 110),
            "firmware": "2.14.3",
            "location": {"lat": round(chance.uniform(47, 55), 6), "lon": round(chance.uniform(6, 15), 6)},
            "tags": ["greenhouse", "zone-4"],
            "note": "Gewächshaus 4, links",
        }
        value = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        if number % BAD_EVERY == BAD_EVERY - 1:
            value = value[:-20]
        topic = f"users/user{user}/devices/device{device}/telemetry"
        yield Record(topic, f"user{user}/device{device}".encode(), value)


def copy_lines(shape: Shape) -> list[bytes]:
    """The rows of the good records as COPY text."""
    limits = routing.limits()
    lines = []
    for record in records(shape):
        try:
            lines.append(DOMAIN.validate(record.topic, record.value, 0, limits).copy_line)
        except Refused:
            continue
    return lines


def fill(servers: str, topic: str, shape: Shape, progress: Progress, *, sampled: float = 0) -> Backlog:
    """Puts the records behind what the topic has, and returns when Kafka has confirmed every one.

    With `sampled` each has a trace, as from a gateway that traces, and this share of them is recorded.
    Raises `RuntimeError` when it does not take them.
    """
    begins = _ends(servers, topic)
    failures: list[str] = []
    producer = Producer(
        {"bootstrap.servers": servers, "acks": "all", "linger.ms": 20, "compression.type": "lz4"}
    )

    def confirm(error: object, _: object) -> None:
        if error is not None:
            failures.append(str(error))

    received_at = datetime.now(UTC).isoformat().encode()
    task = progress.add_task(f"{shape.records:,} records of {shape.devices:,} devices into Kafka")
    chance = random.Random(shape.run)
    for record in progress.track(records(shape), shape.records, task):
        headers: list[tuple[str, str | bytes | None]] = [
            ("mqtt_topic", record.topic.encode()),
            ("received_at", received_at),
        ]
        if sampled:
            headers.append(
                ("traceparent", child(None, sampled=chance.random() < sampled).traceparent().encode())
            )
        while True:
            try:
                producer.produce(topic, record.value, record.key, headers=headers, on_delivery=confirm)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    waiting = producer.flush(WAIT_SECONDS)
    progress.remove_task(task)
    if failures or waiting:
        raise RuntimeError(f"Kafka did not take the backlog: {waiting} waiting, {failures[:1]}")
    return Backlog(shape, begins)


def rewind(servers: str, topic: str, group: str, backlog: Backlog) -> None:
    """Has the group read the backlog again. No member of it may run. Raises `KafkaException`."""
    positions = [TopicPartition(topic, number, offset) for number, offset in backlog.begins.items()]
    admin = AdminClient({"bootstrap.servers": servers})
    answers = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, positions)])
    for answer in answers.values():
        answer.result(WAIT_SECONDS)


def _ends(servers: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench"})
    try:
        known = consumer.list_topics(topic, WAIT_SECONDS).topics[topic].partitions
        return {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), WAIT_SECONDS)[1]
            for number in known
        }
    finally:
        consumer.close()
