"""The circuit breaker around a server: after some failures in a row it is left alone, longer each time.

All workers share one breaker: what one process learns, the others know before their next try, and after each
rest a single process probes. It is kept in Redis; while Redis does not answer, each process uses what it
knows itself.

The states and their times are those of circuitbreaker. Its circuits know one process and one length of rest,
so a new one is made whenever this process learns or counts something.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
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
"""The meaning of an exception for the server; `unknown` means that it did not come from the server."""


class CircuitOpen(psycopg.OperationalError):
    """The database has failed several times in a row and is left alone for now; nothing was sent to it."""


class _Failed(Exception):
    """Stands for a failure that is known already."""


class Breaker:
    """A context around each access: raises `CircuitOpen` at its start, or lets the block try.

    Half-open, it lets one process through: a success closes the breaker, a failure doubles the rest.
    """

    def __init__(self, name: str, meaning_of: Callable[[BaseException], Meaning]) -> None:
        self.name = name
        self.failures = 0
        self._seconds = FIRST_SECONDS
        self._circuit = _circuit(0, FIRST_SECONDS)
        self._meaning_of = meaning_of
        self._probes = False
        self._key = f"sluice:breaker:{name}"

    def __enter__(self) -> None:
        self._learn()
        if self._circuit.closed:
            return
        if self._circuit.opened or not self._takes_probe():
            metrics.DB_BREAKER_REJECTED.add(1)
            with suppress(redis.RedisError):
                counters.add(client(), {"db_rejected": 1})
            raise CircuitOpen(f"not used after {self.failures} failures in a row")
        log.info("breaker_half_open", name=self.name)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        probed, self._probes = self._probes, False
        meaning = "answered" if error is None else self._meaning_of(error)
        if meaning == "answered" and self.failures:
            self._answered()
        elif meaning == "failed":
            self._learn()
            # Others have opened it meanwhile: an earlier failure adds nothing.
            if probed or not self._circuit.opened:
                self._count(probed=probed)
                self._log_opened(error)
        elif probed:
            self._end_probe()

    def value(self) -> float:
        """1 open, 0.5 half-open, 0 closed: for all workers together."""
        self._learn()
        return {STATE_OPEN: 1.0, STATE_HALF_OPEN: 0.5, STATE_CLOSED: 0.0}[self._circuit.state]

    def _learn(self) -> None:
        """Loads what all workers know."""
        try:
            pipeline = client().pipeline(transaction=False)
            pipeline.hmget(self._key, ["failures", "seconds"])
            pipeline.pttl(f"{self._key}:open")
            (failures, seconds), left_ms = pipeline.execute()
        except redis.RedisError:
            return
        self.failures = int(failures or 0)
        self._seconds = int(seconds or FIRST_SECONDS)
        self._circuit = _circuit(self.failures, left_ms / 1000)

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
        if not self._circuit.closed:
            log.info("breaker_closed", name=self.name)
        self.failures, self._seconds = 0, FIRST_SECONDS
        self._circuit = _circuit(0, FIRST_SECONDS)
        with suppress(redis.RedisError):
            client().delete(self._key, f"{self._key}:open", f"{self._key}:probe")

    def _count(self, *, probed: bool) -> None:
        """Counts a failure for all workers; a rest begins if there are enough of them."""
        if probed:
            self._seconds = min(2 * self._seconds, MOST_SECONDS)
        self.failures += 1
        with suppress(redis.RedisError):
            failures = client().register_script(_FAILED)(
                keys=[self._key, f"{self._key}:open", f"{self._key}:probe"],
                args=[self._seconds, FAILURES, FORGET_SECONDS],
            )
            self.failures = int(failures)
        self._circuit = _circuit(self.failures, self._seconds)

    def _log_opened(self, error: BaseException | None) -> None:
        if self._circuit.opened:
            log.warning(
                "breaker_open",
                name=self.name,
                failures=self.failures,
                seconds=self._seconds,
                error=str(error).strip(),
            )


def _circuit(failures: int, rest_seconds: float) -> CircuitBreaker:
    """A circuit after this many failures in a row: if they are enough, open for `rest_seconds` from now on.

    A rest that is not positive is over: the circuit is half-open.
    """
    # To the library, 0 means its default.
    circuit = CircuitBreaker(FAILURES, rest_seconds if rest_seconds > 0 else -1)
    for _ in range(min(failures, FAILURES)):
        with suppress(_Failed), circuit:
            raise _Failed
    return circuit
