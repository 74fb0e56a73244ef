"""How long a message takes from the device to the committed row, measured by looking for a sample's rows.

A sampled message's row is asked for by its primary key, again and again, over a connection of its own; each
query sees only what is committed. The time that counts ends when the answer that shows the row has arrived,
so it is an upper bound, too long by at most the distance between two queries, which is reported with
the result. Both ends are read from this process's monotonic clock.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg

from tasks.servers.database import conninfo

MOST_PENDING = 20_000
MOST_IN_A_QUERY = 2_000
SHORTEST_PAUSE_SECONDS = 0.01
LONGEST_BACK_OFF_SECONDS = 5.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Without these, statistics of a chunk that was empty a moment ago make the planner read all of it.
_SETTINGS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
_QUERY = """
    SELECT sample.time, sample.user_id, sample.device_id, sample.sequence_id
    FROM unnest(
            %(time)s::timestamptz[], %(user_id)s::text[], %(device_id)s::text[], %(sequence_id)s::bigint[]
        ) AS sample(time, user_id, device_id, sequence_id)
    JOIN raw_telemetry AS row USING (time, user_id, device_id, sequence_id)
    WHERE row.time >= %(since)s
"""


class Key(NamedTuple):
    """A row's primary key."""

    time: datetime
    user_id: str
    device_id: str
    sequence_id: int


class Latency(NamedTuple):
    """The measured latencies, in milliseconds."""

    samples: int
    unseen: int
    """Sampled messages whose row never came."""
    skipped: int
    """Messages not sampled because too many samples were waiting for their rows."""
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None
    resolution_p50: float | None
    """Median distance between two looks at a sample: by no more than this is half of the values too long."""
    resolution_max: float | None


def percentile(ordered: list[float], share: float) -> float | None:
    """The nearest-rank percentile of values in order; `None` when there are none."""
    if not ordered:
        return None
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


class Sampler:
    """Samples about `per_second` messages a second and looks for their rows while `look` runs."""

    def __init__(
        self, per_second: float, seed: int = 1, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._pause = 1 / per_second if per_second > 0 else float("inf")
        self._clock = clock
        self._rng = random.Random(seed)  # noqa: S311 - no secret
        self._next = 0.0 if per_second > 0 else float("inf")
        self._pending: dict[Key, float] = {}
        self._latencies: list[float] = []
        self._gaps: list[float] = []
        self._skipped = 0
        self.trouble = ""

    @property
    def pending(self) -> int:
        """Samples whose row has not been seen."""
        return len(self._pending)

    def offer(self, user: str, device: str, sequence_id: int, microseconds: int) -> None:
        """A message leaves now, with this time in it; it becomes a sample if it is time for one."""
        now = self._clock()
        if now < self._next:
            return
        # Not every nth message: that could be the same few devices each time.
        self._next = max(self._next, now - 1.0) + self._pause * self._rng.uniform(0.5, 1.5)
        if len(self._pending) >= MOST_PENDING:
            self._skipped += 1
            return
        self._pending[Key(_EPOCH + timedelta(microseconds=microseconds), user, device, sequence_id)] = now

    async def look(self, database_url: str) -> None:
        """Looks for rows until cancelled; connects again, with back-off, when the database goes away."""
        back_off = 0.2
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    conninfo(database_url),
                    autocommit=True,
                    connect_timeout=5,
                    application_name="sluice-loadtest",
                )
                async with connection:
                    for setting in _SETTINGS:
                        await connection.execute("SELECT set_config(%s, 'off', false)", (setting,))
                    self.trouble, back_off = "", 0.2
                    await self._look_with(connection)
            except psycopg.OperationalError as error:
                self.trouble = str(error).strip()
            await asyncio.sleep(back_off)
            back_off = min(2 * back_off, LONGEST_BACK_OFF_SECONDS)

    async def _look_with(self, connection: psycopg.AsyncConnection[Any]) -> None:
        looked_before: float | None = None
        while True:
            began = self._clock()
            if self._pending:
                keys = [key for key, _ in zip(self._pending, range(MOST_IN_A_QUERY), strict=False)]
                found = await (await connection.execute(_QUERY, _columns(keys), prepare=True)).fetchall()
                self.seen([Key(*row) for row in found])
                if looked_before is not None:
                    self._gaps.append(self._clock() - looked_before)
                looked_before = began
            else:
                looked_before = None
            # At most a fifth of the time is spent asking, so that the looking does not slow what it measures.
            await asyncio.sleep(max(SHORTEST_PAUSE_SECONDS, 4 * (self._clock() - began)))

    def seen(self, keys: list[Key]) -> None:
        """These rows are there now."""
        now = self._clock()
        for key in keys:
            began = self._pending.pop(key, None)
            if began is not None:
                self._latencies.append(now - began)

    async def finish(self, patience: float) -> None:
        """Waits, no longer than `patience` seconds, until all samples are seen."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._pending:  # noqa: ASYNC110 - the looking itself goes by the clock
                    await asyncio.sleep(0.02)

    def result(self) -> Latency:
        """The latencies measured so far."""
        latencies = sorted(1000 * value for value in self._latencies)
        gaps = sorted(1000 * value for value in self._gaps)
        return Latency(
            len(latencies),
            len(self._pending),
            self._skipped,
            *(percentile(latencies, share) for share in (0.5, 0.95, 0.99, 1.0)),
            *(percentile(gaps, share) for share in (0.5, 1.0)),
        )


def _columns(keys: list[Key]) -> dict[str, Any]:
    times, users, devices, sequence_ids = zip(*keys, strict=True)
    return {
        "time": list(times),
        "user_id": list(users),
        "device_id": list(devices),
        "sequence_id": list(sequence_ids),
        "since": min(times),
    }
