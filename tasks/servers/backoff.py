"""Back-off from a server that does not answer: longer each time, shared by all workers."""

import redis
import structlog

from tasks.servers.redis_client import client

log = structlog.get_logger()

FIRST_SECONDS = 1.0
MOST_SECONDS = 10.0
# Failures further apart than this are unrelated.
FORGET_SECONDS = 300


def rests(name: str) -> bool:
    """Whether it is too early to try again. Raises `redis.RedisError`."""
    return bool(client().exists(f"sluice:rest:{name}"))


def failed(name: str) -> float:
    """Notes a failure; returns for how many seconds `rests` is true from now on."""
    try:
        failures = client().incr(f"sluice:failures:{name}")
        client().expire(f"sluice:failures:{name}", FORGET_SECONDS)
        seconds = min(FIRST_SECONDS * 2.0 ** (min(failures, 10) - 1), MOST_SECONDS)
        client().set(f"sluice:rest:{name}", 1, px=round(seconds * 1000))
    except redis.RedisError as error:
        log.warning("failure_not_noted", name=name, error=str(error))
        return 0.0
    return seconds


def succeeded(name: str) -> None:
    """Notes that the server answers. Raises `redis.RedisError`."""
    client().delete(f"sluice:failures:{name}", f"sluice:rest:{name}")
