"""The status that each worker writes to Redis, for health checks and for other workers."""

import json
import time
from typing import Any, NamedTuple

from tasks.rules.state import VERSION
from tasks.servers.redis_client import WORKERS, client, text

# A worker that has not written for this long is gone, or stopped, or cannot reach Redis.
FORGET_SECONDS = 15


class Snapshot(NamedTuple):
    """A worker's view at one moment: tasks queued, tasks taken since its start, whether it is busy."""

    queued: int
    taken: int
    busy: bool


def report(worker: str, snapshot: Snapshot, deaf_seconds: float) -> None:
    """Writes the worker's view to Redis. Raises `redis.RedisError`."""
    own = {"deaf_s": round(deaf_seconds, 1), "states": VERSION, "at": time.time()}
    seen = json.dumps({**snapshot._asdict(), **own})
    client().hset(WORKERS, worker, seen)


def deaf_seconds() -> dict[str, float]:
    """By worker, for how long it has been deaf: 0 is in order. Workers that are gone are missing.

    For health checks: a worker that is missing, or has been deaf for long, is unhealthy. Raises
    `redis.RedisError`.
    """
    return {name: float(document["deaf_s"]) for name, document in _alive().items()}


def state_versions() -> set[int]:
    """The versions of alert states that live workers write. Raises `redis.RedisError`."""
    # Workers that do not report one are older than the second version.
    return {int(document.get("states", 1)) for document in _alive().values()}


def _alive() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, seen in client().hgetall(WORKERS).items():
        document = json.loads(text(seen))
        if time.time() - document["at"] <= FORGET_SECONDS:
            found[text(name)] = document
        else:
            client().hdel(WORKERS, text(name))
    return found
