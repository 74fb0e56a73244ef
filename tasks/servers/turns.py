"""Turns: work that only one worker at a time may do, however many are asked to."""

from collections.abc import Callable

import redis
import structlog
from redis.exceptions import LockError
from redis.lock import Lock

from tasks.errors import NotNow
from tasks.servers.redis_client import client

log = structlog.get_logger()

# After this long without a sign of life a worker loses its turn: the delay that its death costs.
TURN_SECONDS = 10.0
# How often two workers may hand the turn to each other; the rest waits for the next call.
ROUNDS = 10


class TurnLost(NotNow):
    """Another worker has the turn: this one was silent for too long."""


class Turn:
    """The right to go on, for `TURN_SECONDS` from its beginning and from each `keep`.

    `memory` is the identity of the memory of Redis that the work is read from, where that matters to it.
    """

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self.memory = ""

    def keep(self) -> None:
        """Renews the turn. Raises `TurnLost` if it was lost meanwhile."""
        try:
            self._lock.reacquire()
        except LockError as error:
            raise TurnLost(str(error)) from error


def run_alone(name: str, work: Callable[[Turn], None]) -> bool:
    """Runs the work, unless another worker is doing it, which then runs it once more after this call.

    So work that was due before the call is done after it, by one of the two. Returns whether it was done
    here. Raises what the work raises, and `redis.RedisError`.
    """
    again = f"sluice:turn:{name}:again"
    for _ in range(ROUNDS):
        if not _run_if_free(name, work, again):
            client().set(again, 1, ex=60)
            # The other worker may have ended before it could see the mark.
            if not _run_if_free(name, work, again):
                return False
        if not client().delete(again):
            break
    return True


def run_if_free(name: str, work: Callable[[Turn], None]) -> bool:
    """Runs the work, unless another worker is doing it; returns whether it was done here.

    Raises what the work raises, and `redis.RedisError`.
    """
    return _run_if_free(name, work, None)


def _run_if_free(name: str, work: Callable[[Turn], None], again: str | None) -> bool:
    lock = client().lock(f"sluice:turn:{name}", timeout=TURN_SECONDS, blocking=False, thread_local=False)
    if not lock.acquire():
        return False
    try:
        if again is not None:
            client().delete(again)
        work(Turn(lock))
    finally:
        _release(lock, name)
    return True


def _release(lock: Lock, name: str) -> None:
    try:
        lock.release()
    except LockError:
        log.info("turn_lost", name=name)
    except redis.RedisError as error:
        log.warning("turn_not_released", name=name, error=str(error))
