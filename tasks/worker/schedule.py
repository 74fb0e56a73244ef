"""Beat's scheduler: a task is not sent again while an earlier one still waits for a worker.

Celery's own remedy against a pile of missed runs, `expires`, compares the clocks of beat and worker, and
drops every run if they differ.
"""

from datetime import timedelta
from typing import Any

import redis
import structlog
from celery import signals
from celery.beat import Scheduler as CelerysScheduler

from tasks.servers.redis_client import client, scheduled_key

log = structlog.get_logger()

# A task that was lost on its way must not keep others from being sent for longer, or for more than one run.
WAITS_SECONDS = 30


class Scheduler(CelerysScheduler):
    """Keeps its schedule in memory, so that beat has no files, like every other process."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Sends a task that is due, unless an earlier one has not begun yet. Never fails."""
        try:
            if not client().set(scheduled_key(entry.task), 1, nx=True, ex=_waits_seconds(entry)):
                return
        except redis.RedisError as error:
            log.warning("schedule_waits", task=entry.task, error=str(error))
            return
        super().apply_entry(entry, producer=producer)


def _waits_seconds(entry: Any) -> int:
    period = getattr(entry.schedule, "run_every", timedelta())
    return max(WAITS_SECONDS, round(1.5 * period.total_seconds()))


@signals.task_prerun.connect
def _begins(task: Any, **_: Any) -> None:
    if task.name in _scheduled(task):
        client().delete(scheduled_key(task.name))


def _scheduled(task: Any) -> set[str]:
    return {entry["task"] for entry in task.app.conf.beat_schedule.values()}
