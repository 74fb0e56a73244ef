"""Has deliveries sent, by a task in the queue `notify`; one or two wait there also when nobody takes them."""

import json

import redis
import structlog
from kombu.exceptions import OperationalError

from tasks import calls
from tasks.channels.tables import Look
from tasks.servers import celery_broker
from tasks.servers.redis_client import CHANNELS_QUEUED, CHANNELS_WAITING, client

log = structlog.get_logger()

QUEUE = "notify"
# The mark of a task that was lost in its queue must not keep others from being sent for longer.
QUEUED_SECONDS = 30


def wake() -> None:
    """Sends the task, unless one waits. It never fails: beat's next look does it."""
    try:
        if client().set(CHANNELS_QUEUED, 1, nx=True, ex=QUEUED_SECONDS) and not _waits():
            calls.deliver_channels().apply_async()
    except (redis.RedisError, OperationalError, celery_broker.CeleryBrokerAway) as error:
        log.warning("channels_not_woken", error=str(error))


def is_not_queued() -> None:
    """Notes that the task has begun: what comes later needs another one. Raises `redis.RedisError`."""
    client().delete(CHANNELS_QUEUED)


def note(look: Look) -> None:
    """Keeps what was seen for beat's metrics, which ask no database. Raises `redis.RedisError`."""
    client().set(CHANNELS_WAITING, json.dumps(look))


def seen() -> Look | None:
    """The value that was seen last; None before the first look. Raises `redis.RedisError`."""
    found = client().get(CHANNELS_WAITING)
    return None if found is None else Look(*json.loads(found))


def _waits() -> bool:
    return celery_broker.waiting([QUEUE])[QUEUE] > 0
