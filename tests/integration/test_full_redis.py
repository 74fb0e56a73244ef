"""A Redis without memory left: all waits, nothing is lost, and with room again it goes on by itself."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tasks.servers.redis_client import client
from tests.conftest import DeadLetters
from tests.integration.fleet import wait_until
from tests.integration.pages import value
from tests.integration.stream import Written, reading, sequence_ids

pytestmark = pytest.mark.usefixtures("on_servers")

Database = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def full() -> Iterator[None]:
    """Redis has less memory than it uses already, and no key that it may drop."""
    before = client().config_get("maxmemory")["maxmemory"]
    client().config_set("maxmemory", "1mb")
    try:
        yield
    finally:
        client().config_set("maxmemory", before or 0)


def batches_sent(stack: Stack) -> float:
    """How many batches the bridge has sent."""
    return value(stack, "bridge", "sluice_bridge_batches_sent_total")


def test_a_full_redis_is_waited_out(pipeline: Stack, database: Database, dead_letters: DeadLetters) -> None:
    """The worker that takes a task just then stays; every reading is a row, and none a dead letter."""
    user = uuid4().hex[:8]
    written = Written(pipeline, user)
    written.write([reading(number) for number in range(10)])
    before, sent = pipeline.restarts(), batches_sent(pipeline)
    worker = pipeline.pid("worker")
    # A task must be on its way to the worker when there is no room to note that it was taken.
    os.kill(worker, signal.SIGSTOP)
    try:
        written.produce([reading(number) for number in range(10, 20)])
        wait_until(lambda: batches_sent(pipeline) > sent, 20, "the batch")
        logged = len(pipeline.log("worker")), len(pipeline.log("bridge"))
        with full():
            os.kill(worker, signal.SIGCONT)
            wait_until(
                lambda: "redis_refuses" in pipeline.log("worker")[logged[0] :], 30, "the worker to wait"
            )
            written.produce([reading(number) for number in range(20, 30)])
            wait_until(
                lambda: "batch_not_sent" in pipeline.log("bridge")[logged[1] :], 30, "the bridge to wait"
            )
    finally:
        os.kill(worker, signal.SIGCONT)
    written.write([reading(number) for number in range(30, 40)])
    assert sequence_ids(database, user) == list(range(40))
    assert not [letter for _, letter in dead_letters.read() if user in letter["original_topic"]]
    assert pipeline.restarts() == before
    assert pipeline.pid("worker") == worker
