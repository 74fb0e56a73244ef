"""The Celery app and what a worker does at its start and at its children's end."""

from typing import Any

from billiard.exceptions import WorkerLostError
from celery import Celery, signals
from kombu.transport import TRANSPORT_ALIASES

from tasks import celery_monitoring, cpu_limit, dlq, evidence, garbage, lease, logs, registry, worker

__all__ = ["app", "celery_monitoring", "worker"]

# By the schemes of URLs, so that whoever shows the broker's address shows it as it was given.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "tasks.redis_transport:Transport"))

app = Celery(
    "sluice",
    include=[
        "tasks.process",
        "tasks.store",
        "tasks.config",
        "tasks.notify",
        "tasks.replay",
        "tasks.schedule",
        "tasks.share",
        "tasks.alerts.apply",
        "tasks.alerts.clock",
        "tasks.alerts.rebuild",
    ],
)
app.config_from_object("celeryconfig")


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
    garbage.settle()


@signals.worker_process_shutdown.connect
def _close_producer(**_: Any) -> None:
    dlq.close()


@signals.task_failure.connect
def _hand_batch_back(
    kwargs: dict[str, Any] | None = None, exception: BaseException | None = None, **_: Any
) -> None:
    # Also runs, in the main process, when a child was killed: the lane need not wait for the lease.
    if kwargs and (batch := kwargs.get("batch")):
        if isinstance(exception, WorkerLostError) and cpu_limit.exceeded(exception):
            evidence.hung(batch)
        lease.release(batch)
