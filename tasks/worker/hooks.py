"""Celery's signals: work at the start of workers and beat, at the end of a child, and after a failed task."""

from typing import Any

import psycopg
import redis
import structlog
from billiard.exceptions import WorkerLostError
from celery import signals

from tasks import registry
from tasks.batch import cpu_limit, lease, marks
from tasks.dead_letters import sender
from tasks.observe import garbage_collector, logs
from tasks.servers import database
from tasks.servers.redis_client import client
from tasks.worker import monitoring, schedule, stop

# These connect to Celery's signals when they are imported.
__all__ = ["monitoring", "schedule", "stop"]

log = structlog.get_logger()


@signals.setup_logging.connect
def _setup_logging(**_: Any) -> None:
    logs.configure()


@signals.worker_init.connect
def _load_domains(**_: Any) -> None:
    # Once for all children, before any work: a worker with a wrong DOMAINS must not take any.
    try:
        registry.domains()
    except registry.InvalidDomains as error:
        raise SystemExit(f"sluice: {error}") from error
    garbage_collector.tune()


@signals.worker_process_init.connect
def _connect(**_: Any) -> None:
    # The pool hands a child no task before this has returned: the first one need not wait for connections.
    try:
        client().ping()
        with database.access():
            pass
    except (redis.RedisError, psycopg.Error) as error:
        log.info("child_begins_without_a_server", error=str(error))


@signals.worker_process_shutdown.connect
def _close_producer(**_: Any) -> None:
    sender.close()


@signals.task_failure.connect
def _hand_batch_back(
    kwargs: dict[str, Any] | None = None, exception: BaseException | None = None, **_: Any
) -> None:
    # Also runs in the main process when a child was killed, so the lane need not wait for the lease.
    if kwargs and (batch := kwargs.get("batch")):
        if isinstance(exception, WorkerLostError) and cpu_limit.exceeded(exception):
            marks.hung(batch)
        lease.release(batch)
