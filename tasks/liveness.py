"""Whether workers take their work: a process can be alive, and connected, and deaf.

Each worker's main process watches itself: there is work, it has hands free, and yet it has taken none for
long. Then it ends, and its supervisor starts it again. What it sees it writes to Redis, too, for all to see.
"""

import json
import time
from typing import Any, NamedTuple

from tasks.alerts.state import VERSION
from tasks.redis_client import WORKERS, client, text

# A worker that has not looked for so long is gone, or stopped, or cannot reach Redis.
FORGET_SECONDS = 15


class Look(NamedTuple):
    """What a worker saw at one moment: tasks queued, tasks taken since its start, whether it is busy."""

    queued: int
    taken: int
    busy: bool


class Attention:
    """Reckons for how long a worker has taken none of the work that was there for it. Pure, without I/O."""

    def __init__(self) -> None:
        self._taken = -1
        self._since: float | None = None

    def deaf_for(self, look: Look, now: float) -> float:
        """Seconds for which there was work at every look, and the worker free, and nothing was taken."""
        if look.queued == 0 or look.busy or look.taken != self._taken:
            self._taken, self._since = look.taken, None
            return 0.0
        if self._since is None:
            self._since = now
        return now - self._since

    def forget(self) -> None:
        """Starts anew: nobody knows what there was to do."""
        self._since = None


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
