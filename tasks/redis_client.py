"""This process's Redis client, and the names of Sluice's keys."""

from functools import lru_cache

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tasks.settings import settings

COUNTERS = "sluice:counters"


def lease_key(batch: str) -> str:
    """Exists while somebody works on the batch."""
    return f"sluice:lease:{batch}"


def part_key(batch: str, part: int) -> str:
    """The part's messages, as the bridge packed them."""
    return f"sluice:part:{batch}:{part}"


def rows_key(batch: str, part: int) -> str:
    """The part's rows, from `process` to `store`."""
    return f"sluice:rows:{batch}:{part}"


def done_key(bridge: str) -> str:
    """List on which a bridge is told of its finished batches."""
    return f"sluice:done:{bridge}"


def refused_key(partition: int) -> str:
    """Sorted set of the partition's offsets that became dead letters lately."""
    return f"sluice:refused:{partition}"


def text(value: bytes | str) -> str:
    """A reply of Redis as text."""
    return value.decode() if isinstance(value, bytes) else value


@lru_cache
def client() -> redis.Redis:
    """A pooled client that is safe to use after a fork.

    A command that meets a broken connection is tried twice more within a second, then raises
    `redis.RedisError`.
    """
    chosen = settings()
    return redis.Redis.from_url(
        chosen.redis_url.get_secret_value(),
        socket_timeout=chosen.redis_timeout_seconds,
        socket_connect_timeout=chosen.redis_timeout_seconds,
        socket_keepalive=True,
        health_check_interval=10,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), 2),
    )
