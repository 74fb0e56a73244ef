"""Two beats: each task is sent as often as by one, and goes on when either is killed or hangs."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery.beat import ScheduleEntry
from celery.schedules import schedule

from compose.local.stack import Stack
from tasks.app import app
from tasks.dead_letter_share import watch_share
from tasks.servers.redis_client import claimed_key, client, scheduled_key
from tasks.worker.schedule import CLAIMED, Scheduler
from tests.integration import fleet
from tests.integration.fleet import wait_until
from tests.integration.second_process import Second, readiness, second

TICK = "Sending due task clock of the alerts"
COMMAND = [
    *(str(Path(sys.executable).with_name("celery")), "-A", "tasks", "beat"),
    "--scheduler=tasks.worker.schedule:Scheduler",
]
SECONDS = 15
STOP_SECONDS = 60
# Celery's own way to stop is an exception, and Python drops one that a finalizer raises.
STOPPED_IN_A_FINALIZER = """
import os, signal
from celery.bin.celery import main
from celery.result import AsyncResult

AsyncResult.__del__ = lambda _: os.kill(os.getpid(), signal.SIGTERM)
main()
"""


@pytest.fixture
def other(pipeline: Stack, tmp_path: Path) -> Iterator[Second]:
    """A second beat, which has begun."""
    with second(pipeline, COMMAND, "BEAT_METRICS_PORT", tmp_path / "other.log") as process:
        wait_until(lambda: process.ready().startswith("ok"), 30, "the second beat")
        yield process


def counting(stack: Stack, other: Second) -> Callable[[], int]:
    """How many ticks of the clock both have sent since this call."""

    def sent() -> int:
        return stack.log("beat").count(TICK) + other.log.read_text().count(TICK)

    before = sent()
    return lambda: sent() - before


@pytest.mark.usefixtures("beat")
def test_two_send_what_one_would_send(pipeline: Stack, other: Second) -> None:
    """The clock's tick, every second; each says that there is another, or has sent all of them."""
    sent, began = counting(pipeline, other), time.monotonic()
    time.sleep(SECONDS)
    ticks, seconds = sent(), time.monotonic() - began
    assert SECONDS / 2 <= ticks <= seconds / CLAIMED + 1
    said = {other.ready(), readiness(pipeline.env["BEAT_METRICS_PORT"])}
    assert any(one.startswith("ok; another beat runs") for one in said)


@pytest.mark.usefixtures("beat")
def test_the_other_goes_on_when_one_is_killed_or_hangs(pipeline: Stack, other: Second) -> None:
    """At once: none waits for the end of another. One that wakes sends no more than both do."""
    hung = pipeline.pid("beat")
    os.kill(hung, signal.SIGSTOP)
    try:
        sent = counting(pipeline, other)
        wait_until(lambda: sent() >= 3, 10, "the ticks")
    finally:
        os.kill(hung, signal.SIGCONT)
    sent, began = counting(pipeline, other), time.monotonic()
    time.sleep(SECONDS)
    assert sent() <= (time.monotonic() - began) / CLAIMED + 2
    fleet.kill(pipeline.pid("beat"))
    sent = counting(pipeline, other)
    wait_until(lambda: sent() >= 3, 10, "the ticks")


def test_a_beat_ends_also_when_the_signal_falls_into_a_finalizer(pipeline: Stack, tmp_path: Path) -> None:
    """A result that nobody keeps is finalized after each task that is sent."""
    command = [sys.executable, "-c", STOPPED_IN_A_FINALIZER, *COMMAND[1:]]
    with second(pipeline, command, "BEAT_METRICS_PORT", tmp_path / "stopped.log") as beat:
        assert beat.process.wait(STOP_SECONDS) == 0
    assert "Exception ignored in" in beat.log.read_text()


@pytest.mark.usefixtures("in_process")
def test_a_run_that_one_has_claimed_is_not_sent_by_another() -> None:
    """Also when a worker has begun with the task meanwhile; the next run is sent by whichever is first."""
    task = watch_share.name
    entry = ScheduleEntry(name="share", task=task, schedule=schedule(1.0), app=app)
    client().delete(claimed_key("share"), scheduled_key(task), "process")
    one, two = Scheduler(app, lazy=True), Scheduler(app, lazy=True)
    one.apply_entry(entry)
    client().delete(scheduled_key(task))
    two.apply_entry(entry)
    assert client().llen("process") == 1
    wait_until(lambda: not client().exists(claimed_key("share")), 2, "the end of the claim")
    two.apply_entry(entry)
    assert client().llen("process") == 2
    client().delete(claimed_key("share"), scheduled_key(task), "process")
