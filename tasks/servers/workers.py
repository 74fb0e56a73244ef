"""What each worker writes to Redis of itself, for health checks and for other workers to read."""

import json
import time
from typing import Any, NamedTuple

from tasks.rules.state import VERSION
from tasks.servers.redis_client import WORKERS, client, text

# A worker that has not looked for so long is gone, or stopped, or cannot reach Redis.
FORGET_SECONDS = 15


class Look(NamedTuple):
    """What a worker saw at one moment: tasks queued, tasks taken since its start, whether it is busy."""

    queued: int
    taken: int
    busy: bool


def tell(worker: str, look: Look, deaf_seconds: float) -> None:
    """Writes down what the worker saw. Raises `redis.RedisError`."""
    own = {"deaf_s": round(deaf_seconds, 1), "states": VERSION, "at": time.time()}
    seen = json.dumps({**look._asdict(), **own})
    client().hset(WORKERS, worker, seen)


def deaf_seconds() -> dict[str, float]:
    """By worker, for how long it has been deaf: 0 is in order. Those that are gone are missing.

    For health checks: a worker that is missing, or deaf for long, is out of order. Raises `redis.RedisError`.
    """
    return {name: float(document["deaf_s"]) for name, document in _alive().items()}


def state_versions() -> set[int]:
    """The versions of alert states that the workers write that are alive. Raises `redis.RedisError`."""
    # Workers that do not say so are older than the second version.
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
