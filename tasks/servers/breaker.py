"""The circuit breaker around a server: after some failures in a row it is left alone, longer each time.

All workers share one breaker: what one process learns, the others know before their next try, and after each
rest a single process probes. It is kept in Redis; while Redis does not answer, each process uses what it
knows itself.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Literal

import psycopg
import redis
import structlog
from circuitbreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker

from tasks.observe.metrics import worker as metrics
from tasks.servers import counters
from tasks.servers.redis_client import client

log = structlog.get_logger()

FAILURES = 5
FIRST_SECONDS = 5
MOST_SECONDS = 60
# Failures further apart than this are unrelated; longer than any rest and its probe.
FORGET_SECONDS = 300
# A probe whose process was killed holds up the next one no longer than this.
PROBE_SECONDS = 90

_FAILED = Path(__file__).with_suffix(".lua").read_text()

Meaning = Literal["answered", "failed", "unknown"]
"""The meaning of an exception for the server; `unknown` is one that did not come from it."""


class CircuitOpen(psycopg.OperationalError):
    """The database has failed several times in a row and is left alone for now; nothing was sent to it."""


class Breaker(CircuitBreaker):  # type: ignore[misc]  # it ships no types
    """A context around each access: raises `CircuitOpen` at its start, or lets the block try.

    Half-open, it lets one process through: a success closes the breaker, a failure doubles the rest.
    """

    def __init__(self, name: str, meaning_of: Callable[[BaseException], Meaning]) -> None:
        super().__init__(FAILURES, FIRST_SECONDS, lambda _, error: meaning_of(error) == "failed", name)
        self._meaning_of = meaning_of
        self._probes = False
        self._key = f"sluice:breaker:{name}"

    def __enter__(self) -> None:
        self._learn()
        if self.closed:
            return
        if self.opened or not self._takes_probe():
            metrics.DB_BREAKER_REJECTED.add(1)
            with suppress(redis.RedisError):
                counters.add(client(), {"db_rejected": 1})
            raise CircuitOpen(f"not used after {self.failure_count} failures in a row")
        log.info("breaker_half_open", name=self.name)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        probed, self._probes = self._probes, False
        meaning = "answered" if error is None else self._meaning_of(error)
        if meaning == "answered" and self.failure_count:
            self._answered()
        elif meaning == "failed":
            self._learn()
            # Others have opened it meanwhile: an earlier failure adds nothing.
            if probed or not self.opened:
                self._count(probed=probed)
                super().__exit__(exc_type, error, traceback)
                self._log_opened(error)
        elif probed:
            self._end_probe()

    def value(self) -> float:
        """1 open, 0.5 half-open, 0 closed: for all workers together."""
        self._learn()
        return {STATE_OPEN: 1.0, STATE_HALF_OPEN: 0.5, STATE_CLOSED: 0.0}[self.state]

    def _learn(self) -> None:
        """Loads what all workers know."""
        try:
            pipeline = client().pipeline(transaction=False)
            pipeline.hmget(self._key, ["failures", "seconds"])
            pipeline.pttl(f"{self._key}:open")
            (failures, seconds), left_ms = pipeline.execute()
        except redis.RedisError:
            return
        self._failure_count = int(failures or 0)
        self._recovery_timeout = int(seconds or FIRST_SECONDS)
        self._state = STATE_OPEN if self._failure_count >= FAILURES else STATE_CLOSED
        # The base class counts from the beginning of the rest, by this process's clock.
        self._opened = monotonic() - self._recovery_timeout + max(left_ms, 0) / 1000

    def _takes_probe(self) -> bool:
        try:
            self._probes = bool(client().set(f"{self._key}:probe", 1, nx=True, ex=PROBE_SECONDS))
        except redis.RedisError:
            self._probes = True
        return self._probes

    def _end_probe(self) -> None:
        with suppress(redis.RedisError):
            client().delete(f"{self._key}:probe")

    def _answered(self) -> None:
        if not self.closed:
            log.info("breaker_closed", name=self.name)
        self.reset()
        with suppress(redis.RedisError):
            client().delete(self._key, f"{self._key}:open", f"{self._key}:probe")

    def _count(self, *, probed: bool) -> None:
        """Counts a failure for all workers, and allows for the one that the base class adds."""
        if probed:
            self._recovery_timeout = min(2 * self._recovery_timeout, MOST_SECONDS)
        with suppress(redis.RedisError):
            failures = client().register_script(_FAILED)(
                keys=[self._key, f"{self._key}:open", f"{self._key}:probe"],
                args=[self._recovery_timeout, FAILURES, FORGET_SECONDS],
            )
            self._failure_count = int(failures) - 1

    def _log_opened(self, error: BaseException | None) -> None:
        """Logs when the breaker has opened."""
        if self.opened:
            log.warning(
                "breaker_open",
                name=self.name,
                failures=self.failure_count,
                seconds=self._recovery_timeout,
                error=str(error).strip(),
            )
