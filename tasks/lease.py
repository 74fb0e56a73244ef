"""The lease of a batch: a key in Redis that lives as long as somebody works on the batch.

The bridge sets it when it sends the batch, the tasks renew it while they work, and its absence without a
result tells the bridge to send the batch again. A task that finds no lease drops its work: the batch has
been given up, and a newer sending of the same messages is under way.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import structlog

from tasks.redis_client import client, lease_key
from tasks.settings import settings

log = structlog.get_logger()


class LeaseLost(Exception):
    """The batch was given up by its bridge: whatever this task did for it counts for nothing."""


@contextmanager
def held(batch: str) -> Iterator[None]:
    """Renews the batch's lease for as long as the block runs.

    Raises `LeaseLost` when there is no lease at the start. An exception inside the block gives the lease
    up, so that the bridge need not wait for it to expire.
    """
    if not _renew(batch):
        raise LeaseLost(batch)
    finished = threading.Event()
    renewer = threading.Thread(target=_keep, args=(batch, finished), name=f"lease-{batch}", daemon=True)
    renewer.start()
    try:
        yield
    except BaseException:
        finished.set()
        release(batch)
        raise
    finally:
        finished.set()
        renewer.join()


def release(batch: str) -> None:
    """Gives the lease up. Without Redis nothing happens: then the lease expires by itself."""
    try:
        client().delete(lease_key(batch))
    except redis.RedisError as error:
        log.warning("lease_not_released", batch=batch, error=str(error))


def _renew(batch: str) -> bool:
    return bool(client().expire(lease_key(batch), settings().lease_seconds))


def _keep(batch: str, finished: threading.Event) -> None:
    while not finished.wait(settings().lease_seconds / 4):
        try:
            _renew(batch)
        except redis.RedisError as error:
            log.warning("lease_not_renewed", batch=batch, error=str(error))
