"""Processes that are stopped and started under load, and a worker that has gone deaf."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local import envfile
from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tasks.app import app
from tasks.servers.workers import deaf_seconds
from tests.conftest import PROJECT, DeadLetters
from tests.integration import fleet
from tests.integration.lag import wait_for_no_lag
from tests.integration.production import (
    assert_one_outcome_each,
    counter,
    good,
    produce,
    row_count,
    second_bridge,
)


@contextmanager
def second_worker(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    """Another worker, stopped gently at the end, within its grace."""
    command = [
        *(str(Path(sys.executable).with_name("celery")), "-A", "tasks", "worker", "--queues=process,db"),
        *("--concurrency=4", "--without-mingle", "--without-gossip", "--hostname=second@%h"),
    ]
    environment = {**os.environ, **process_environment(stack.env)}
    process = subprocess.Popen(command, cwd=PROJECT, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@contextmanager
def setting(stack: Stack, **values: str) -> Iterator[None]:
    """The stack's worker with other settings."""
    before = stack.env
    envfile.write(stack.layout.env, {**before, **values})
    stack.restart("worker")
    try:
        yield
    finally:
        envfile.write(stack.layout.env, before)
        stack.restart("worker")


def losses(stack: Stack) -> int:
    """Batches that vanished, by the bridge's log."""
    return stack.log("bridge").count("batch_lost")


@pytest.mark.usefixtures("on_servers")
def test_rolling_restarts_under_load_lose_and_delay_nothing(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """Workers and bridges are stopped and started in turn: each message has one outcome, within seconds."""
    run = uuid4().hex[:8]
    wait_for_no_lag(pipeline)
    sent = 0
    slowest = 0.0

    def send(count: int) -> None:
        nonlocal sent, slowest
        begun = time.monotonic()
        produce(pipeline, run, range(sent, sent + count))
        sent += count
        fleet.wait_until(lambda: row_count(database, run) >= len(good(sent)), 60, "the rows")
        slowest = max(slowest, time.monotonic() - begun)

    with second_worker(pipeline), second_bridge(pipeline):
        fleet.wait_until(lambda: any(name.startswith("second") for name in deaf_seconds()), 60, "the worker")
        for name in ("worker", "bridge", "worker", "bridge"):
            for _ in range(5):
                send(200)
            produce(pipeline, run, range(sent, sent + 2000))
            sent += 2000
            pipeline.stop(name)
            for _ in range(5):
                send(200)
            pipeline.start(name)
    wait_for_no_lag(pipeline)
    assert_one_outcome_each(database, dead_letters, run, sent)
    # A rebalance of the bridges takes the better part of this on a machine that is busy.
    assert slowest < 40


def test_a_worker_that_stops_while_it_waits_hands_its_batches_back(
    pipeline: Stack, dead_letters: DeadLetters
) -> None:
    """SIGTERM during an outage: it ends within its grace, and the bridge knows at once and sends again."""
    run = uuid4().hex[:8]
    # Readings of a user whose rules were never read would wait before `store`.
    produce(pipeline, run, range(50))
    wait_for_no_lag(pipeline)
    waits, before = counter(pipeline, "store_waits"), losses(pipeline)
    pipeline.stop("postgres")
    produce(pipeline, run, range(50, 100))
    fleet.wait_until(lambda: counter(pipeline, "store_waits") > waits, 30, "a store that waits")
    begun = time.monotonic()
    pipeline.stop("worker")
    assert time.monotonic() - begun < 40
    # The lease would have lasted for ten seconds more.
    fleet.wait_until(lambda: losses(pipeline) > before, 8, "the bridge to notice")
    pipeline.start("worker")
    pipeline.start("postgres")
    with psycopg.connect(pipeline.env["DATABASE_DIRECT_URL"], autocommit=True) as database:
        fleet.wait_until(lambda: row_count(database, run) >= len(good(100)), 60, "the rows")
        wait_for_no_lag(pipeline)
        assert_one_outcome_each(database, dead_letters, run, 100)


@pytest.mark.usefixtures("on_servers")
def test_a_deaf_worker_ends_and_is_started_again(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Alive, connected, and taking nothing: it notices by itself that there is work, and makes room."""
    run = uuid4().hex[:8]
    with setting(pipeline, WORKER_DEAF_SECONDS="5"):
        wait_for_no_lag(pipeline)
        pid, restarts = pipeline.pid("worker"), pipeline.restarts().get("worker", 0)
        for queue in ("process", "db"):
            assert app.control.cancel_consumer(queue, reply=True, timeout=10, limit=1)
        produce(pipeline, run, range(100))
        fleet.wait_until(lambda: pipeline.restarts().get("worker", 0) > restarts, 60, "the worker to end")
        assert "worker_deaf" in pipeline.log("worker")
        fleet.wait_until(lambda: row_count(database, run) >= len(good(100)), 60, "the rows")
        assert pipeline.pid("worker") != pid
        fleet.wait_until(lambda: 0.0 in deaf_seconds().values(), 20, "the new worker to look around")
