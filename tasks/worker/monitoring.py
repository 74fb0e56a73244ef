"""The monitoring ports of workers and beat, connected to Celery's signals."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals
from celery.worker import state

from tasks.channels import wake
from tasks.channels.tables import Look
from tasks.dead_letters import unhandled
from tasks.observe import instruments, logs, tracing
from tasks.observe.metrics import worker as metrics
from tasks.observe.metrics.beat import (
    CHANNELS_ENABLED,
    CHANNELS_HELD,
    CHANNELS_OLDEST,
    CHANNELS_UNTAKEN,
    CHANNELS_WAITING,
    DEAD_LETTER_OLDEST,
    DEAD_LETTER_RETENTION,
    DEAD_LETTER_SHARE_HIGH,
    OUTBOX_AGE,
    OUTBOX_ENTRIES,
    QUEUED,
    ROLLUPS_BEHIND,
    TASKS_SENT,
)
from tasks.observe.port import Monitoring, first_problem
from tasks.outbox import stream
from tasks.rollups import behind
from tasks.servers import celery_broker, clocks, database
from tasks.servers.redis_client import DEAD_LETTER_SHARE, client
from tasks.settings import settings
from tasks.worker import consumer, schedule, stop

T = TypeVar("T")

# A shorter time may be two looks at a bad moment.
DEAF_SECONDS = 10.0
QUEUES = ("process", "db", wake.QUEUE)

_monitoring: list[Monitoring] = []
_began: dict[str, float] = {}
_consuming: list[bool] = []
# Counts of the main process, which must not use the instruments.
_lost: Counter[str] = Counter()
_sent: Counter[str] = Counter()


@signals.worker_init.connect
def _worker_begins(sender: Any, **_: Any) -> None:
    logs.configure()
    instruments.share()
    metrics.CHILDREN.read_from(lambda: sender.pool.num_processes if getattr(sender, "pool", None) else None)
    metrics.ACTIVE_TASKS.read_from(lambda: len(state.active_requests))
    metrics.DEAF.read_from(stop.deaf_seconds)
    metrics.REFUSED.read_from(lambda: bool(consumer.refusal()))
    metrics.CHILDREN_LOST.read_from(lambda: _lost["children"])
    metrics.DB_BREAKER_STATE.read_from(lambda: database.breaker().value())
    queues = {queue.name for queue in sender.app.amqp.queues.consume_from.values()}
    # Beside another worker on the same machine.
    port = settings().notify_metrics_port if queues == {wake.QUEUE} else settings().metrics_port
    deafness = stop.deafness
    clocks.watch()
    _monitoring.append(Monitoring("worker", port, live=deafness, ready=first_problem(deafness, _why_no_work)))


def _why_no_work() -> str:
    if not _consuming:
        return "it is not consuming from the broker yet"
    try:
        client().ping()
    except redis.RedisError as error:
        return f"Redis is away: {error}"
    if refusal := consumer.refusal():
        return f"Redis refuses commands: {refusal}"
    if problem := stop.broker_problem():
        return f"the broker is away: {problem}"
    deaf = stop.deaf_seconds()
    return f"there is work, and it has taken none for {deaf:.0f} s" if deaf >= DEAF_SECONDS else ""


@signals.worker_ready.connect
def _worker_consumes(**_: Any) -> None:
    _consuming.append(True)


@signals.worker_shutdown.connect
def _worker_ends(**_: Any) -> None:
    instruments.stop_sharing()


@signals.worker_process_init.connect
def _child_begins(**_: Any) -> None:
    for monitoring in _monitoring:
        monitoring.close()
    tracing.begin("worker")


@signals.worker_process_shutdown.connect
def _child_ends(**_: Any) -> None:
    tracing.end()


@signals.task_prerun.connect
def _task_begins(task_id: str, **_: Any) -> None:
    _began[task_id] = time.perf_counter()


@signals.task_postrun.connect
def _task_ends(task_id: str, task: Any, **_: Any) -> None:
    if (began := _began.pop(task_id, None)) is not None:
        metrics.TASK_SECONDS.observe(time.perf_counter() - began, task.name)


@signals.task_failure.connect
def _task_fails(sender: Any, exception: BaseException, **_: Any) -> None:
    if isinstance(exception, WorkerLostError | TimeLimitExceeded):
        _lost["children"] += 1  # counted in the main process, because the child is gone
    else:
        metrics.TASKS_FAILED.add(1, sender.name)


@signals.beat_init.connect
def _beat_begins(**_: Any) -> None:
    signals.after_task_publish.connect(_beat_sends)
    TASKS_SENT.read_from(lambda: _sent["tasks"])
    OUTBOX_ENTRIES.read_from(_if_it_answers(stream.backlog))
    OUTBOX_AGE.read_from(_if_it_answers(stream.oldest_seconds))
    DEAD_LETTER_SHARE_HIGH.read_from(_if_it_answers(lambda: client().exists(DEAD_LETTER_SHARE)))
    DEAD_LETTER_OLDEST.read_from(_if_it_answers(_oldest_letters))
    retention_seconds = settings().dead_letter_retention_days * 86_400
    DEAD_LETTER_RETENTION.read_from(lambda: retention_seconds)
    CHANNELS_WAITING.read_from(_channels(lambda look: look.waiting))
    CHANNELS_HELD.read_from(_channels(lambda look: look.held))
    CHANNELS_OLDEST.read_from(_channels(lambda look: _age(look.oldest)))
    CHANNELS_UNTAKEN.read_from(_channels(lambda look: _age(look.untaken)))
    CHANNELS_ENABLED.read_from(_channels(lambda look: look.channels))
    QUEUED.read_from(_if_it_answers(_queued))
    ROLLUPS_BEHIND.read_from(_if_it_answers(_rollups))
    clocks.watch()
    live, port = schedule.PULSE.check, settings().beat_metrics_port
    _monitoring.append(Monitoring("beat", port, live=live, ready=live, note=schedule.remark))


def _beat_sends(**_: Any) -> None:
    _sent["tasks"] += 1
    schedule.PULSE.turn()


def _oldest_letters() -> dict[tuple[str, ...], float] | None:
    found = unhandled.oldest_seconds()
    return None if found is None else {(domain,): seconds for domain, seconds in found.items()}


def _channels(read: Callable[[Look], float]) -> Callable[[], float | None]:
    def last() -> float | None:
        look = wake.seen()
        return None if look is None else read(look)

    return _if_it_answers(last)


def _age(since: float | None) -> float:
    return 0.0 if since is None else max(0.0, time.time() - since)


def _queued() -> dict[tuple[str, ...], float]:
    return {(queue,): count for queue, count in celery_broker.waiting(QUEUES).items()}


def _rollups() -> dict[tuple[str, ...], float]:
    return {(domain,): seconds for domain, seconds in behind.seconds().items()}


def _if_it_answers(read: Callable[[], T]) -> Callable[[], T | None]:
    def known() -> T | None:
        try:
            return read()
        except (redis.RedisError, celery_broker.CeleryBrokerAway):
            return None  # no value is better than an old or a wrong one

    return known
