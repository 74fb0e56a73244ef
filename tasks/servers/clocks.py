"""The clock that all processes share, which is Redis', and the skew of this process's own clock."""

import threading
import time

import redis
import structlog

from tasks.observe.metrics import several as metrics
from tasks.servers.redis_client import client

log = structlog.get_logger()

LOOK_SECONDS = 10.0
# The least skew that is worth a line in the log.
NOTICED_SECONDS = 2.0


def now_ms() -> int:
    """The time by Redis. Raises `redis.RedisError`."""
    seconds, microseconds = client().time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def skew_ms() -> int:
    """How far this process's clock is ahead of Redis', or behind if negative. Raises `redis.RedisError`."""
    before = time.time_ns()
    common = now_ms()
    # Redis read its clock about halfway between the two.
    return (before + time.time_ns()) // 2_000_000 - common


def watch() -> None:
    """Measures the skew from now on, in a thread, and exports it as a metric of this process."""
    measured: list[float] = []

    def measure() -> None:
        noticed = False
        while True:
            try:
                skew = skew_ms() / 1000
            except redis.RedisError:
                measured.clear()
            else:
                measured[:] = [skew]
                if (abs(skew) > NOTICED_SECONDS) != noticed:
                    noticed = not noticed
                    log.warning("clock_skewed" if noticed else "clock_right", seconds=skew)
            time.sleep(LOOK_SECONDS)

    # Not measured at the scrape: a Redis that hangs must not block the metrics.
    metrics.CLOCK_SKEW.read_from(lambda: measured[0] if measured else None)
    threading.Thread(target=measure, name="clock", daemon=True).start()
