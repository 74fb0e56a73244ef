"""How often the registry is written: the more devices are active, the less often, so that it stays cheap.

A device that reports every ten seconds would otherwise cost two writes into tables for each reading.
"""

from tasks.servers.redis_client import DEVICES_ACTIVE, DEVICES_REST, client

# Lines of devices that are written on average, at most: with more, the next run comes later.
LINES_A_SECOND = 500
MOST_REST_SECONDS = 30
# A fraction of what the stream may hold (`tasks/report.lua`): then nothing rests.
MOST_WAITING_BYTES = 16 * 1024 * 1024


def rests() -> bool:
    """Whether the registry is not to be written yet. Raises `redis.RedisError`."""
    if not client().exists(DEVICES_REST):
        return False
    waiting = client().memory_usage(DEVICES_ACTIVE, samples=0)
    return waiting is None or int(waiting) < MOST_WAITING_BYTES


def rest(written: int) -> None:
    """Begins the pause after so many lines were written. Raises `redis.RedisError`."""
    seconds = min(written // LINES_A_SECOND, MOST_REST_SECONDS)
    if seconds:
        client().set(DEVICES_REST, written, ex=seconds)
