"""What workers and beat do at their start, at their children's end, and when a task has failed."""

from typing import Any

from billiard.exceptions import WorkerLostError
from celery import signals

from tasks import registry
from tasks.batch import cpu_limit, lease, marks
from tasks.dead_letters import sender
from tasks.observe import garbage_collector, logs
from tasks.worker import monitoring, schedule, stop

# They hang themselves on Celery's signals.
__all__ = ["monitoring", "schedule", "stop"]


@signals.setup_logging.connect
def _setup_logging(**_: Any) -> None:
    logs.configure()


@signals.worker_init.connect
def _load_domains(**_: Any) -> None:
    # Once for all children, and at once: a worker with a wrong DOMAINS must not take any work.
    try:
        registry.domains()
    except registry.InvalidDomains as error:
        raise SystemExit(f"sluice: {error}") from error
    garbage_collector.tune()


@signals.worker_process_shutdown.connect
def _close_producer(**_: Any) -> None:
    sender.close()


@signals.task_failure.connect
def _hand_batch_back(
    kwargs: dict[str, Any] | None = None, exception: BaseException | None = None, **_: Any
) -> None:
    # Also runs, in the main process, when a child was killed: the lane need not wait for the lease.
    if kwargs and (batch := kwargs.get("batch")):
        if isinstance(exception, WorkerLostError) and cpu_limit.exceeded(exception):
            marks.hung(batch)
        lease.release(batch)
