"""The version of the rules: a number in Redis that changes with every change of any rules."""

import time
from typing import Any

from tasks.servers.redis_client import RULES_VERSION, client


def rules_version() -> bytes:
    """The version of the rules: rules read after it are at least as new. Raises `redis.RedisError`."""
    version = client().get(RULES_VERSION)
    if version is None:
        pipeline = client().pipeline(transaction=True)
        _begin_version(pipeline)
        pipeline.get(RULES_VERSION)
        version = pipeline.execute()[-1]
    assert isinstance(version, bytes)
    return version


def announce_change() -> None:
    """Outdates every worker's copies; call it after a change is committed. Raises `redis.RedisError`."""
    pipeline = client().pipeline(transaction=True)
    _begin_version(pipeline)
    pipeline.incr(RULES_VERSION)
    pipeline.execute()


def begin_again() -> None:
    """The same after a loss of Redis, which may have brought an old number back; raises the same."""
    client().set(RULES_VERSION, _by_the_clock())


def _begin_version(commands: Any) -> None:
    # From the clock, so that a number does not come again after a flush of Redis.
    commands.set(RULES_VERSION, _by_the_clock(), nx=True)


def _by_the_clock() -> int:
    return time.time_ns() // 1000
