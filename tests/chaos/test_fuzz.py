"""Hostile payloads and topics through the real `process` and `store`, in batches of the bridge's size."""

import json
import re
from collections import Counter
from typing import Any

import psycopg
import pytest
from confluent_kafka import KafkaError, Message, Producer

from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.hostile import hostile
from tests.conftest import DeadLetters
from tests.integration.lag import wait_for_no_lag
from tests.integration.production import counter

COUNTED = ("received", "stored", "duplicate", "dead_lettered")
TOPIC = re.compile(r"users/([^/]+)/devices/([^/]+)/telemetry")
# What the log of a worker or bridge says of a crash, of a bug, or of messages that are suspected. SIGTERM is
# none of these: by it the autoscaler ends children that it thinks idle.
TROUBLE = (
    *("(SIGSEGV)", "(SIGABRT)", "(SIGKILL)", "raised unexpected"),
    *("Traceback", "batch_halved", "message_condemned"),
)

Coordinates = tuple[str, int, int]


@pytest.mark.timeout(900)
def test_each_hostile_message_has_one_outcome_and_no_worker_dies(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """Whatever comes is a row or a dead letter, and nobody stumbles over it."""
    run = f"fuzz-{options.SEED}"
    wait_for_no_lag(pipeline)
    before = {name: counter(pipeline, name) for name in COUNTED}
    trouble = _trouble(pipeline)
    worker = pipeline.pid("worker")
    (known,) = database.execute("SELECT count(*) FROM raw_telemetry").fetchone() or (0,)
    sent = _produce(pipeline, run, options.MESSAGES)
    wait_for_no_lag(pipeline, seconds=600)

    letters = Counter(_coordinates(key, letter) for key, letter in dead_letters.read())
    good = {at: message for at, message in sent.items() if at not in letters}
    assert [at for at, count in letters.items() if count > 1] == []
    assert letters.keys() <= sent.keys()
    expected = Counter(_row(topic, payload) for topic, payload in good.values())
    rows = Counter(
        database.execute(
            "SELECT user_id, device_id, sequence_id FROM raw_telemetry WHERE user_id = ANY(%s)",
            [list({user for user, _, _ in expected})],
        ).fetchall()
    )
    assert rows.keys() == expected.keys()
    (stored,) = database.execute("SELECT count(*) FROM raw_telemetry").fetchone() or (0,)
    counted = {name: counter(pipeline, name) - before[name] for name in COUNTED}
    assert counted["stored"] == stored - known == rows.total()
    assert counted["duplicate"] == expected.total() - rows.total()
    assert counted["dead_lettered"] == len(letters)
    assert counted["received"] == len(sent) == options.MESSAGES
    kinds = Counter(letter["error_type"] for _, letter in dead_letters.read())
    assert not kinds.keys() & {"WorkerLost", "Unexpected", "DatabaseRefused"}, kinds
    assert _trouble(pipeline) == trouble
    assert pipeline.pid("worker") == worker
    print(f"seed {options.SEED}: {len(sent):,} messages, {rows.total():,} rows, {dict(kinds)}")  # noqa: T201


def _produce(stack: Stack, run: str, count: int) -> dict[Coordinates, tuple[bytes, bytes]]:
    """Straight into Kafka, as fast as it takes them; what was sent, by its coordinates."""
    sent: dict[Coordinates, tuple[bytes, bytes]] = {}
    producer = Producer(
        {"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], "acks": "all", "linger.ms": 20}
    )
    for message in hostile(options.SEED, run, count):

        def delivered(
            error: KafkaError | None, record: Message, sent_as: tuple[bytes, bytes] = message
        ) -> None:
            assert error is None, error
            sent["iot-stream", record.partition() or 0, record.offset() or 0] = sent_as

        producer.produce(
            "iot-stream",
            message.payload,
            b"/".join(message.topic.split(b"/")[1:4:2]),
            headers=[("mqtt_topic", message.topic)],
            on_delivery=delivered,
        )
        producer.poll(0)
        while len(producer) > 50_000:
            producer.poll(0.1)
    assert producer.flush(60) == 0
    return sent


def _coordinates(key: bytes, letter: dict[str, Any]) -> Coordinates:
    at = letter["kafka_topic"], int(letter["kafka_partition"]), int(letter["kafka_offset"])
    assert key.decode() == "/".join(map(str, at))
    return at


def _row(topic: bytes, payload: bytes) -> tuple[str, str, int]:
    """What tells the row of a good message, by the standard library alone."""
    # No MQTT topic has such bytes, but a record of somebody else's may: each becomes U+FFFD.
    found = TOPIC.fullmatch(topic.decode(errors="replace"))
    assert found is not None, topic
    return found[1], found[2], int(json.loads(payload)["sequence_id"])


def _trouble(stack: Stack) -> dict[str, int]:
    logs = stack.log("worker") + stack.log("bridge")
    return {word: logs.count(word) for word in TROUBLE}
