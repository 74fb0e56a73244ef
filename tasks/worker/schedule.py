"""Beat's scheduler: a task is not sent again while an earlier one still waits for a worker.

Nor does a second beat send what another has just sent: each claims a run in Redis. So several may run, on
several machines; none waits for the end of another.

Celery's own remedy against a pile of missed runs, `expires`, compares the clocks of beat and worker, and
drops every run if they differ.
"""

import time
from datetime import timedelta
from typing import Any

import redis
import structlog
from celery import signals
from celery.beat import Scheduler as CelerysScheduler

from tasks.observe.port import Pulse
from tasks.servers.redis_client import claimed_key, client, scheduled_key

log = structlog.get_logger()

# A task that was lost on its way must not keep others from being sent for longer, or for more than one run.
WAITS_SECONDS = 30
# For this part of its period a run keeps another one off. The rest is for a beat that was late the last time.
CLAIMED = 0.8
# Beat has a task for every second; without Redis it retries this long before it gives up.
BEAT_SECONDS = 60.0
# A run of a rare task may still be claimed by a beat that has ended since.
OFTEN_SECONDS = 10.0
# For so long one that sent a task counts as there.
OTHER_SECONDS = 30.0

PULSE = Pulse("beat", BEAT_SECONDS)
_other_sent: list[float] = []


class Scheduler(CelerysScheduler):
    """Keeps its schedule in memory, so that beat has no files, like every other process."""

    _closed = False

    def close(self) -> None:
        """Called by beat's handler of SIGTERM and SIGINT, which then raises an exception to end the loop."""
        self._closed = True
        super().close()

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """A turn of the loop; the last one ends it."""
        # Where the signal came during a finalizer, Python has dropped the handler's exception.
        if self._closed:
            raise SystemExit
        return super().tick(*args, **kwargs)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Sends a task that is due, unless another beat has, or the last one has not begun. Never fails."""
        try:
            if not client().set(claimed_key(entry.name), 1, nx=True, px=_claimed_ms(entry)):
                PULSE.turn()
                if _period_seconds(entry) < OFTEN_SECONDS:
                    _other_sent[:] = [time.monotonic()]
                return
            if not client().set(scheduled_key(entry.task), 1, nx=True, ex=_waits_seconds(entry)):
                return
        except redis.RedisError as error:
            log.warning("schedule_waits", task=entry.task, error=str(error))
            return
        super().apply_entry(entry, producer=producer)


def remark() -> str:
    """That another beat runs beside this one; empty when none has sent a task lately."""
    found = any(time.monotonic() - at < OTHER_SECONDS for at in _other_sent)
    return "another beat runs, too; each task is sent by one of them" if found else ""


def _claimed_ms(entry: Any) -> int:
    return max(1, round(CLAIMED * 1000 * _period_seconds(entry)))


def _waits_seconds(entry: Any) -> int:
    return max(WAITS_SECONDS, round(1.5 * _period_seconds(entry)))


def _period_seconds(entry: Any) -> float:
    period: timedelta = getattr(entry.schedule, "run_every", timedelta())
    return period.total_seconds()


@signals.task_prerun.connect
def _begins(task: Any, **_: Any) -> None:
    if task.name in _scheduled(task):
        client().delete(scheduled_key(task.name))


def _scheduled(task: Any) -> set[str]:
    return {entry["task"] for entry in task.app.conf.beat_schedule.values()}
