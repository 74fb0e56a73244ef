"""Beat sends no task twice while one like it waits, however the clocks of the processes differ."""

from typing import Any

import pytest
from celery.beat import ScheduleEntry
from celery.schedules import schedule

from tasks.app import app
from tasks.dead_letter_share import watch_share
from tasks.servers import clocks
from tasks.servers.redis_client import claimed_key, client, scheduled_key
from tasks.worker.schedule import Scheduler

pytestmark = pytest.mark.usefixtures("in_process")
TASK = watch_share.name


def test_a_task_is_sent_again_when_the_one_before_has_begun() -> None:
    """Workers that were away find one task of each kind, and none that has expired."""
    client().delete(claimed_key("share"), scheduled_key(TASK), "process")
    scheduler = Scheduler(app, lazy=True)
    entry = ScheduleEntry(name="share", task=TASK, schedule=schedule(1.0), app=app)
    for _ in range(3):
        client().delete(claimed_key("share"))
        scheduler.apply_entry(entry)
    assert client().llen("process") == 1
    (message,) = client().lrange("process", 0, -1)
    assert b'"expires": null' in message
    watch_share.apply()
    client().delete(claimed_key("share"))
    scheduler.apply_entry(entry)
    assert client().llen("process") == 2
    client().delete(claimed_key("share"), scheduled_key(TASK), "process")


@pytest.mark.parametrize("every", [1.0, 60.0, 600.0])
def test_a_task_that_waits_is_known_until_its_next_run_is_due(every: float) -> None:
    """Also of tasks that are sent rarely there is one at most."""
    client().delete(claimed_key("share"), scheduled_key(TASK))
    Scheduler(app, lazy=True).apply_entry(ScheduleEntry("share", TASK, schedule=schedule(every), app=app))
    known: Any = client().ttl(scheduled_key(TASK))
    assert known > every
    client().delete(claimed_key("share"), scheduled_key(TASK), "process")


def test_the_schedule_is_that_of_the_processes_and_nothing_of_it_expires() -> None:
    """An expiry time is compared with the clock of a worker, which may be another one."""
    assert all("expires" not in entry.get("options", {}) for entry in app.conf.beat_schedule.values())
    assert TASK in {entry["task"] for entry in app.conf.beat_schedule.values()}


def test_the_common_clock_is_redis() -> None:
    """This machine's clock is that of the test's Redis, but for the way there."""
    assert abs(clocks.skew_ms()) < 1000
