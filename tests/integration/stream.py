"""Records put straight into the telemetry topic, as the gateway would, and what became of them."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from confluent_kafka import Message, Producer

from compose.local.stack import Stack
from tasks.servers.topic_reader import TopicReader
from tests.integration.lag import wait_for_no_lag

Database = psycopg.Connection[tuple[Any, ...]]


class Written:
    """The readings of some devices of one user, each with its place in the topic."""

    def __init__(self, stack: Stack, user: str) -> None:
        self._stack, self._user = stack, user
        self.places: list[tuple[int, int]] = []

    def write(self, payloads: list[bytes], device: str = "d") -> None:
        """Produces the payloads, and returns when the bridge has committed them."""
        self.produce(payloads, device)
        wait_for_no_lag(self._stack)

    def produce(self, payloads: list[bytes], device: str = "d") -> None:
        """Produces the payloads, and returns when Kafka has them."""
        producer = Producer({"bootstrap.servers": self._stack.env["KAFKA_BOOTSTRAP_SERVERS"], "acks": "all"})
        headers: list[tuple[str, str | bytes | None]] = [
            ("mqtt_topic", f"users/{self._user}/devices/{device}/telemetry".encode())
        ]

        def note(error: object, record: Message) -> None:
            assert error is None, error
            self.places.append((record.partition() or 0, record.offset() or 0))

        for payload in payloads:
            producer.produce(
                "iot-stream",
                payload,
                f"{self._user}/{device}".encode(),
                headers=headers,
                on_delivery=note,
            )
            producer.poll(0)
        assert producer.flush(30) == 0


def reading(number: int, **values: Any) -> bytes:
    """A reading with a time of its own, unless another is given."""
    return json.dumps(
        {"sequence_id": number, "time": f"2026-03-02T10:{number // 60:02}:{number % 60:02}Z", **values}
    ).encode()


def sequence_ids(database: Database, user: str) -> list[int]:
    """The stored sequence ids of the user."""
    rows = database.execute(
        "SELECT sequence_id FROM raw_telemetry WHERE user_id = %s ORDER BY sequence_id", [user]
    )
    return [int(sequence_id) for (sequence_id,) in rows.fetchall()]


@contextmanager
def cold_only(database: Database, user: str) -> Iterator[None]:
    """A schema with a fault: of this user no temperature of 100 and more can be stored."""
    name = f"cold_{user}"
    database.execute(
        f"ALTER TABLE raw_telemetry ADD CONSTRAINT {name}"
        f" CHECK (user_id <> '{user}' OR temperature < 100) NOT VALID"
    )
    try:
        yield
    finally:
        database.execute(f"ALTER TABLE raw_telemetry DROP CONSTRAINT {name}")


def replayed(user: str) -> Counter[bytes]:
    """How often each dead letter of the user stands in the telemetry topic. Needs `on_servers`."""
    with TopicReader() as reader:
        found: Counter[bytes] = Counter()
        for record in reader.records("iot-stream", reader.ranges("iot-stream")):
            headers = dict(record.headers() or ())
            origin, topic = headers.get("replay_of"), headers.get("mqtt_topic")
            if isinstance(origin, bytes) and isinstance(topic, bytes) and user.encode() in topic:
                found[origin] += 1
    return found
