"""Recovery when something was lost or away: Redis' memory, a bridge, the database."""

import time
from typing import Any
from uuid import uuid4

import psycopg
import redis

from compose.local.stack import Stack
from ingest.admin.servers.positions import Positions
from tests.conftest import DeadLetters
from tests.integration import fleet
from tests.integration.lag import wait_for_no_lag
from tests.integration.production import (
    assert_one_outcome_each,
    await_rows,
    produce,
    second_bridge,
    sequence_ids,
)


def test_a_flushed_redis_loses_nothing(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """FLUSHALL takes queues, leases and results; the lanes notice and send their batches again."""
    run = uuid4().hex[:8]
    before = pipeline.log("bridge").count("batch_lost")
    produce(pipeline, run, range(20_000))
    with redis.Redis.from_url(pipeline.env["REDIS_URL"]) as client:
        for _ in range(50):
            client.flushall()
            time.sleep(0.02)
    await_rows(database, run, 20_000)
    wait_for_no_lag(pipeline)
    assert_one_outcome_each(database, dead_letters, run, 20_000)
    assert pipeline.log("bridge").count("batch_lost") > before


def test_bridges_that_come_and_go_lose_and_double_nothing(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """A second bridge joins under load and leaves again; every message still has one outcome."""
    run = uuid4().hex[:8]
    produce(pipeline, run, range(10_000))
    with second_bridge(pipeline):
        for start in range(10_000, 40_000, 5000):
            produce(pipeline, run, range(start, start + 5000))
            time.sleep(1)
    produce(pipeline, run, range(40_000, 45_000))
    await_rows(database, run, 45_000)
    wait_for_no_lag(pipeline)
    assert_one_outcome_each(database, dead_letters, run, 45_000)


def test_an_outage_of_the_database_is_waited_out(pipeline: Stack, dead_letters: DeadLetters) -> None:
    """While the database is away messages wait; only what is bad in itself becomes a dead letter.

    Rows wait to be written, and readings of users whose rules were never read wait to be judged.
    """
    known, unknown = uuid4().hex[:8], uuid4().hex[:8]
    produce(pipeline, known, range(100))
    with psycopg.connect(pipeline.env["DATABASE_DIRECT_URL"], autocommit=True) as database:
        await_rows(database, known, 100)
    wait_for_no_lag(pipeline)
    positions = Positions(pipeline.env["KAFKA_BOOTSTRAP_SERVERS"], "sluice-bridge")
    pipeline.stop("postgres")
    produce(pipeline, known, range(100, 10_000))
    produce(pipeline, unknown, range(10_000))
    time.sleep(5)
    # Less what is bad in itself at the beginning of a partition: a batch of nothing else is done.
    assert positions.lag("iot-stream") > 19_000
    positions.close()
    pipeline.start("postgres")
    with psycopg.connect(pipeline.env["DATABASE_DIRECT_URL"], autocommit=True) as database:
        for run in (known, unknown):
            await_rows(database, run, 10_000)
        wait_for_no_lag(pipeline)
        for run in (known, unknown):
            assert_one_outcome_each(database, dead_letters, run, 10_000)


def test_killed_worker_children_and_a_killed_redis_lose_nothing(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """SIGKILL of the processes that do the work, and of the Redis that carries it."""
    run = uuid4().hex[:8]
    for start in range(0, 30_000, 5000):
        produce(pipeline, run, range(start, start + 5000))
        if start == 15_000:
            fleet.kill(pipeline.pid("redis"))
        else:
            for child in fleet.children(pipeline.pid("worker")):
                fleet.kill(child)
        time.sleep(0.5)
    await_rows(database, run, 30_000)
    wait_for_no_lag(pipeline)
    assert_one_outcome_each(database, dead_letters, run, 30_000)


def test_a_stopped_bridge_commits_what_it_has_finished(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """SIGTERM in a backlog: what has an outcome is committed, and the rest gets one after the start."""
    run = uuid4().hex[:8]
    wait_for_no_lag(pipeline)
    produce(pipeline, run, range(30_000))
    pipeline.stop("bridge")
    letters = [letter for _, letter in dead_letters.read() if run in letter["original_topic"]]
    finished = len(sequence_ids(database, run)) + len(letters)
    positions = Positions(pipeline.env["KAFKA_BOOTSTRAP_SERVERS"], "sluice-bridge")
    assert positions.lag("iot-stream") == 30_000 - finished
    positions.close()
    pipeline.start("bridge")
    await_rows(database, run, 30_000)
    wait_for_no_lag(pipeline)
    assert_one_outcome_each(database, dead_letters, run, 30_000)
