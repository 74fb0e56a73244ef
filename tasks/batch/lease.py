"""The lease of a batch: a key in Redis that exists from the sending of the batch to its end.

The bridge sets it when it sends the batch, with its own name as the value, and the tasks renew it while they
work. A task that cannot finish gives it up and notifies the bridge; if the task was killed, the lease
expires. Then the bridge sends the batch again. A task that finds no lease drops its work: the batch has been
given up, and the same messages have been sent again.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import structlog

from tasks.batch import marks
from tasks.errors import NotNow, OutOfMemory
from tasks.servers.redis_client import client, done_key, evidence_key, lease_key, text
from tasks.settings import settings

log = structlog.get_logger()

# How long a bridge may take to read the report of a batch: a list that is not read expires.
DONE_SECONDS = 900
GIVEN_UP = "given-up"


class LeaseLost(NotNow):
    """The bridge has given the batch up: this task's work on it does not count."""


@contextmanager
def held(batch: str, stage: str) -> Iterator[None]:
    """Renews the batch's lease while the block runs, and marks the batch as worked on by this stage.

    Raises `LeaseLost` when there is no lease at the start. An exception inside the block gives the lease up,
    notes whether it is a bug, and notifies the bridge at once. `MemoryError` is raised as `OutOfMemory`,
    because Celery would end the whole worker at the former.
    """
    if not _begin(batch, stage):
        raise LeaseLost(batch)
    finished = threading.Event()
    renewer = threading.Thread(target=_keep, args=(batch, finished), name=f"lease-{batch}", daemon=True)
    renewer.start()
    try:
        yield
    except BaseException as error:
        finished.set()
        _fail(batch, stage, error)
        if isinstance(error, MemoryError):
            raise OutOfMemory(str(error)) from error
        raise
    else:
        _end(batch, stage)
    finally:
        finished.set()
        renewer.join()


def release(batch: str) -> None:
    """Gives the lease up and notifies the bridge. Does nothing without Redis: the lease expires."""
    try:
        bridge = client().getdel(lease_key(batch))
        if bridge is not None:
            done = done_key(text(bridge))
            pipeline = client().pipeline(transaction=False)
            pipeline.rpush(done, f"{batch} {GIVEN_UP}")
            pipeline.expire(done, DONE_SECONDS)
            pipeline.execute()
    except redis.RedisError as error:
        log.warning("lease_not_released", batch=batch, error=str(error))


def hand_back(batch: str) -> None:
    """Gives up a batch that cannot be finished here, and notes that its messages are not the reason."""
    try:
        client().hset(evidence_key(batch), marks.HANDED_BACK, 1)
        client().expire(evidence_key(batch), 3 * settings().lease_seconds)
    except redis.RedisError as error:
        log.warning("batch_not_handed_back", batch=batch, error=str(error))
    release(batch)


def _begin(batch: str, stage: str) -> bool:
    pipeline = client().pipeline(transaction=False)
    pipeline.expire(lease_key(batch), settings().lease_seconds)
    marks.begun(pipeline, batch, stage)
    return bool(pipeline.execute()[0])


def _end(batch: str, stage: str) -> None:
    # The work is done and reported; a mark that stays expires before the bridge reads it.
    try:
        marks.ended(client(), batch, stage)
    except redis.RedisError as error:
        log.warning("mark_not_removed", batch=batch, error=str(error))


def _fail(batch: str, stage: str, error: BaseException) -> None:
    try:
        pipeline = client().pipeline(transaction=False)
        marks.failed(pipeline, batch, stage, error)
        pipeline.execute()
    except redis.RedisError as redis_error:
        log.warning("failure_not_noted", batch=batch, error=str(redis_error))
    release(batch)


def _keep(batch: str, finished: threading.Event) -> None:
    while not finished.wait(settings().lease_seconds / 4):
        try:
            client().expire(lease_key(batch), settings().lease_seconds)
        except redis.RedisError as error:
            log.warning("lease_not_renewed", batch=batch, error=str(error))
