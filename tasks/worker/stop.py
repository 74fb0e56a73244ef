"""How a worker's main process ends: in time when it is stopped, and by itself when it has gone deaf.

Celery's warm shutdown (SIGTERM) waits for running tasks without any limit, its soft shutdown (SIGQUIT) always
sleeps for the whole of its limit. Here a stopping worker ends as soon as its tasks have ended; after the
limit it hands their batches back, so that the lanes send them again at once.
"""

import os
import signal
import threading
import time
from collections.abc import Iterable
from typing import Any

import redis
import structlog
from billiard import active_children
from celery import signals
from celery.worker import state

from tasks.batch import lease
from tasks.servers import celery_broker, workers
from tasks.servers.redis_client import leave_old_master
from tasks.servers.workers import Snapshot
from tasks.settings import settings
from tasks.worker.deafness import Attention

log = structlog.get_logger()

LOOK_SECONDS = 2.0
HAND_BACK_SECONDS = 0.2
# sysexits.h: a service is unavailable.
EX_UNAVAILABLE = 69

_taken = [0]
_turns = [0]
_stopping = threading.Event()
_deaf_for = [0.0]
_broker_problem = [""]


def deaf_seconds() -> float:
    """For how long there has been work, and free processes, and nothing was taken."""
    return _deaf_for[0]


def deafness() -> str:
    """A sentence when this worker is deaf; empty when all is well."""
    if _deaf_for[0] < settings().worker_deaf_seconds:
        return ""
    return f"there is work, and none was taken for {_deaf_for[0]:.0f} s"


def broker_problem() -> str:
    """Why the broker, or Redis, did not answer at the last look; empty when all is well."""
    return _broker_problem[0]


@signals.task_received.connect
def _count(**_: Any) -> None:
    _taken[0] += 1


@signals.worker_ready.connect
def _watch(sender: Any, **_: Any) -> None:
    sender.timer.call_repeatedly(LOOK_SECONDS / 2, _turn)
    queues = [queue.name for queue in sender.app.amqp.queues.consume_from.values()]
    threading.Thread(target=_look, args=(sender, queues), name="attention", daemon=True).start()


def _turn() -> None:
    _turns[0] += 1


@signals.worker_shutting_down.connect
def _stop(how: str, **_: Any) -> None:
    if how == "Warm" and not _stopping.is_set():
        _stopping.set()
        threading.Thread(target=_end_in_time, args=(os.EX_OK,), name="stop", daemon=True).start()


@signals.task_retry.connect
def _cancelled(request: Any, **_: Any) -> None:
    # A cold shutdown cancels running tasks, and reports them as retries.
    if batch := (request.kwargs or {}).get("batch"):
        lease.hand_back(batch)


def _end_in_time(exit_code: int) -> None:
    """Lets the tasks finish within the limit, then ends this process and its children."""
    known = set(state.active_requests)
    deadline = time.monotonic() + settings().celery_soft_shutdown_seconds
    while True:
        # Prefetched tasks will not begin any more; the turn of the loop that the signal met may take some.
        waiting = [one for one in list(state.requests.values()) if one not in known]
        _hand_back(waiting)
        known.update(waiting)
        if (left := deadline - time.monotonic()) <= 0:
            break
        time.sleep(min(left, HAND_BACK_SECONDS))
    _hand_back(list(state.requests.values()))
    log.warning("worker_stop_forced", tasks=[request.name for request in state.active_requests])
    for child in active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
    os._exit(exit_code)


def _hand_back(requests: Iterable[Any]) -> None:
    batches = {(request.kwargs or {}).get("batch") for request in requests}
    for batch in filter(None, batches):
        lease.hand_back(batch)


def _look(consumer: Any, queues: list[str]) -> None:
    attention, turns = Attention(), -1
    while not _stopping.wait(LOOK_SECONDS):
        try:
            queued = sum(celery_broker.waiting(queues).values())
            # While the event loop stands still no task ends: a worker that has enough would be busy forever.
            busy = len(state.requests) >= consumer.pool.num_processes and _turns[0] != turns
            turns = _turns[0]
            snapshot = Snapshot(queued, _taken[0], busy)
            deaf = _deaf_for[0] = attention.deaf_for(snapshot, time.monotonic())
            workers.report(consumer.hostname, snapshot, deaf)
            # The one on which Celery waits for tasks has no timeout, and nobody may be there any more.
            leave_old_master()
            _broker_problem[0] = ""
        except (celery_broker.CeleryBrokerAway, redis.RedisError) as error:
            attention.forget()
            _broker_problem[0] = str(error)
            log.warning("attention_suspended", error=str(error))
            continue
        if deaf >= settings().worker_deaf_seconds:
            log.error("worker_deaf", seconds=round(deaf), queued=snapshot.queued, taken=snapshot.taken)
            _stopping.set()
            setattr(state, "should_stop", EX_UNAVAILABLE)  # noqa: B010 - the stubs take it for a constant
            _end_in_time(EX_UNAVAILABLE)
