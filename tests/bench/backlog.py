"""A backlog of real-looking records in Kafka, and the very same rows for the reference run."""

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from confluent_kafka import Producer
from rich.progress import track

START = datetime(2026, 1, 1, tzinfo=UTC)


class Record(NamedTuple):
    """What a gateway would have produced."""

    topic: str
    key: bytes
    value: bytes


def records(count: int, devices: int, run: int) -> Iterator[Record]:
    """`count` readings of about 250 bytes, of `devices` devices in turn, each a second after its last.

    The run is in the time, so that the rows of two runs are different rows.
    """
    chance = random.Random(run)
    start = START + timedelta(days=run)
    for number in range(count):
        device = number % devices
        user = device // 10
        taken = start + timedelta(seconds=number // devices, microseconds=device)
        payload = {
            "sequence_id": number // devices,
            "time": taken.isoformat(),
            "temperature": round(chance.uniform(-20, 45), 2),
            "battery": chance.randrange(100),
            "rssi": -chance.randrange(40, 110),
            "firmware": "2.14.3",
            "location": {"lat": round(chance.uniform(47, 55), 6), "lon": round(chance.uniform(6, 15), 6)},
            "tags": ["greenhouse", "zone-4"],
            "note": "Gewächshaus 4, links",
        }
        topic = f"users/user{user}/devices/device{device}/telemetry"
        yield Record(
            topic,
            f"user{user}/device{device}".encode(),
            json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode(),
        )


def produce(bootstrap_servers: str, topic: str, count: int, devices: int, run: int) -> None:
    """Fills the topic, and returns when Kafka has confirmed every record."""
    failures: list[str] = []
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "acks": "all", "linger.ms": 20, "compression.type": "lz4"}
    )

    def confirm(error: object, _: object) -> None:
        if error is not None:
            failures.append(str(error))

    received_at = datetime.now(UTC).isoformat().encode()
    for record in track(records(count, devices, run), "backlog into Kafka", count):
        headers: list[tuple[str, str | bytes | None]] = [
            ("mqtt_topic", record.topic.encode()),
            ("received_at", received_at),
        ]
        while True:
            try:
                producer.produce(topic, record.value, record.key, headers=headers, on_delivery=confirm)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    deadline = time.monotonic() + 120
    while len(producer) and time.monotonic() < deadline:
        producer.flush(1)
    if failures or len(producer):
        raise RuntimeError(f"Kafka did not take the backlog: {len(producer)} waiting, {failures[:1]}")
