"""When the rollups of each domain were last complete: every hour that was due had been made.

It is kept in Redis for beat's metric, which asks no database, and the age grows while no worker makes any.
That hours from before the rollups were switched on are still being made does not count.
"""

import time

import redis
import structlog

from tasks.domain.domain import AnyDomain
from tasks.servers.redis_client import ROLLUPS_COMPLETE, client, text

log = structlog.get_logger()


def note(domain: AnyDomain, *, on: bool, complete: bool) -> None:
    """Keeps that a domain's rollups are complete; begins to count where nothing is known, and ends it if off.

    Without Redis it does nothing: the next run notes it.
    """
    try:
        if not on:
            client().hdel(ROLLUPS_COMPLETE, domain.name)
        elif complete:
            client().hset(ROLLUPS_COMPLETE, domain.name, time.time())
        else:
            client().hsetnx(ROLLUPS_COMPLETE, domain.name, time.time())
    except redis.RedisError as error:
        log.warning("rollups_not_noted", error=str(error))


def seconds() -> dict[str, float]:
    """For how long each domain that is rolled up has not been complete. Raises `redis.RedisError`."""
    now = time.time()
    found = client().hgetall(ROLLUPS_COMPLETE)
    return {text(name): max(0.0, now - float(at)) for name, at in found.items()}
