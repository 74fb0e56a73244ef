"""Messages produced straight into Kafka, as the gateway makes them, and what became of them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import redis
from confluent_kafka import Producer

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tasks.servers.redis_client import COUNTERS
from tests.conftest import PROJECT, DeadLetters
from tests.integration import fleet

BAD_EVERY = 100


def produce(stack: Stack, run: str, numbers: range) -> None:
    """Readings of ten devices straight into Kafka, as the gateway would write them, one in a hundred bad."""
    producer = Producer(
        {"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], "acks": "all", "linger.ms": 5}
    )
    for number in numbers:
        device = f"dev-{number % 10}"
        sequence_id = number if number % BAD_EVERY else "bad"
        value = json.dumps(
            {"sequence_id": sequence_id, "time": f"2026-03-01T10:{number // 1000:02}:00Z"}
        ).encode()
        headers: list[tuple[str, str | bytes | None]] = [
            ("mqtt_topic", f"users/{run}/devices/{device}/telemetry".encode())
        ]
        producer.produce("iot-stream", value, f"{run}/{device}".encode(), headers=headers)
        producer.poll(0)
    assert producer.flush(30) == 0


def assert_one_outcome_each(
    database: psycopg.Connection[tuple[Any, ...]], letters: DeadLetters, run: str, count: int
) -> None:
    """Every good message is one row, every bad one has one dead letter, by its coordinates."""
    assert sequence_ids(database, run) == good(count)
    keys = {key for key, letter in letters.read() if run in letter["original_topic"]}
    assert len(keys) == count - len(good(count))


def good(count: int) -> list[int]:
    """The sequence ids that become rows."""
    return [number for number in range(count) if number % BAD_EVERY]


def counter(stack: Stack, name: str) -> int:
    """A running total of the pipeline."""
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as client:
        value = client.hget(COUNTERS, name)
    return int(value) if isinstance(value, bytes) else 0


def sequence_ids(database: psycopg.Connection[tuple[Any, ...]], run: str) -> list[int]:
    """The stored sequence ids of the run."""
    rows = database.execute("SELECT sequence_id FROM raw_telemetry WHERE user_id = %s", [run]).fetchall()
    return sorted(int(sequence_id) for (sequence_id,) in rows)


def row_count(database: psycopg.Connection[tuple[Any, ...]], run: str) -> int:
    """How many rows of the run are stored; to ask again and again, it costs the database little."""
    (count,) = database.execute(
        "SELECT count(*) FROM raw_telemetry WHERE user_id = %s", [run]
    ).fetchone() or (0,)
    return int(count)


def await_rows(database: psycopg.Connection[tuple[Any, ...]], run: str, count: int) -> None:
    """Returns when all that can become rows of so many messages has."""
    fleet.wait_until(lambda: row_count(database, run) >= len(good(count)), 240, "the rows")


@contextmanager
def second_bridge(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    """Another bridge of the same group, stopped gently at the end."""
    environment = {**os.environ, **process_environment(stack.env)}
    process = subprocess.Popen([sys.executable, "-m", "ingest.bridge"], cwd=PROJECT, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
