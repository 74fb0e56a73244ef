"""What comes back when something was lost or away: Redis' memory, a bridge, the database."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import redis
from confluent_kafka import Producer

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tests.conftest import PROJECT, DeadLetters
from tests.integration import fleet
from tests.integration.test_end_to_end import wait_for_no_lag


def produce(stack: Stack, run: str, numbers: range) -> None:
    """Readings of ten devices straight into Kafka, as the gateway would write them."""
    producer = Producer(
        {"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], "acks": "all", "linger.ms": 5}
    )
    for number in numbers:
        device = f"dev-{number % 10}"
        value = json.dumps({"sequence_id": number, "time": f"2026-03-01T10:{number // 1000:02}:00Z"}).encode()
        headers: list[tuple[str, str | bytes | None]] = [
            ("mqtt_topic", f"users/{run}/devices/{device}/telemetry".encode())
        ]
        producer.produce("iot-stream", value, f"{run}/{device}".encode(), headers=headers)
        producer.poll(0)
    assert producer.flush(30) == 0


def sequence_ids(database: psycopg.Connection[tuple[Any, ...]], run: str) -> list[int]:
    """The stored sequence ids of the run."""
    rows = database.execute("SELECT sequence_id FROM raw_telemetry WHERE user_id = %s", [run]).fetchall()
    return sorted(int(sequence_id) for (sequence_id,) in rows)


@contextmanager
def second_bridge(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    """Another bridge of the same group, stopped gently at the end."""
    environment = {**os.environ, **process_environment(stack.env)}
    process = subprocess.Popen([sys.executable, "-m", "ingest.bridge"], cwd=PROJECT, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_flushed_redis_loses_nothing(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """FLUSHALL takes queues, leases and results; the lanes notice and send their batches again."""
    run = uuid4().hex[:8]
    client = redis.Redis.from_url(pipeline.env["REDIS_URL"])
    produce(pipeline, run, range(20_000))
    for _ in range(5):
        client.flushall()
        time.sleep(0.1)
    client.close()
    fleet.wait_until(lambda: len(sequence_ids(database, run)) >= 20_000, 90, "the rows")
    wait_for_no_lag(pipeline)
    assert sequence_ids(database, run) == list(range(20_000))


def test_bridges_that_come_and_go_lose_and_double_nothing(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """A second bridge joins under load and leaves again; every message is stored once."""
    run = uuid4().hex[:8]
    produce(pipeline, run, range(10_000))
    with second_bridge(pipeline):
        for start in range(10_000, 40_000, 5000):
            produce(pipeline, run, range(start, start + 5000))
            time.sleep(1)
    produce(pipeline, run, range(40_000, 45_000))
    fleet.wait_until(lambda: len(sequence_ids(database, run)) >= 45_000, 90, "the rows")
    wait_for_no_lag(pipeline)
    assert sequence_ids(database, run) == list(range(45_000))


def test_an_outage_of_the_database_is_waited_out(pipeline: Stack, dead_letters: DeadLetters) -> None:
    """While the database is away messages wait; none of them becomes a dead letter."""
    run = uuid4().hex[:8]
    pipeline.stop("postgres")
    produce(pipeline, run, range(10_000))
    time.sleep(5)
    pipeline.start("postgres")
    with psycopg.connect(pipeline.env["DATABASE_URL"], autocommit=True) as database:
        fleet.wait_until(lambda: len(sequence_ids(database, run)) >= 10_000, 90, "the rows")
        wait_for_no_lag(pipeline)
        assert sequence_ids(database, run) == list(range(10_000))
    assert [letter for _, letter in dead_letters.read() if run in letter["original_topic"]] == []


def test_a_stopped_bridge_commits_what_it_has_finished(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """SIGTERM in the middle of a backlog: the rest is there after the next start, and nothing twice."""
    run = uuid4().hex[:8]
    produce(pipeline, run, range(30_000))
    pipeline.stop("bridge")
    stored = sequence_ids(database, run)
    pipeline.start("bridge")
    fleet.wait_until(lambda: len(sequence_ids(database, run)) >= 30_000, 90, "the rows")
    wait_for_no_lag(pipeline)
    assert len(stored) == len(set(stored))
    assert sequence_ids(database, run) == list(range(30_000))
