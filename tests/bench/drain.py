"""How fast a backlog in Kafka becomes rows, and whether any process's memory grows with it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from compose.local.stack import Stack
from ingest.positions import Positions
from tasks.redis_client import COUNTERS
from tests.bench.backlog import produce
from tests.bench.reference import empty

MOST_SECONDS = 300.0


@dataclass
class Drain:
    """One run: messages per second, and the resident memory of each process in MiB at its start and most."""

    per_second: float
    seconds: float
    rows: int
    memory_mib: dict[str, tuple[float, float]] = field(default_factory=dict)


def drain(stack: Stack, count: int, devices: int, run: int) -> Drain:
    """Fills Kafka while no bridge runs, starts it, and follows the backlog to lag 0.

    The clock starts with the first finished batch, whose messages do not count: starting a process is not
    draining. Raises `RuntimeError` when the lag is not 0 after five minutes or rows are missing.
    """
    stack.stop("bridge")
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        empty(connection)
    produce(stack.env["KAFKA_BOOTSTRAP_SERVERS"], "iot-stream", count, devices, run)
    counters = redis.Redis.from_url(stack.env["REDIS_URL"])
    before = _received(counters)
    memory: dict[str, list[float]] = {}
    stack.start("bridge")
    deadline = time.monotonic() + MOST_SECONDS
    while (first := _received(counters) - before) == 0 and time.monotonic() < deadline:
        time.sleep(0.005)
    started = time.monotonic()
    sampled = 0.0
    while (done := _received(counters) - before) < count and time.monotonic() < deadline:
        if time.monotonic() - sampled > 0.5:
            sampled = time.monotonic()
            _sample(stack, ("bridge", "worker", "redis"), memory)
        time.sleep(0.01)
    seconds = time.monotonic() - started
    if done < count:
        raise RuntimeError(
            f"after {MOST_SECONDS:.0f} s {done:,} of {count:,} records were done; see the logs"
        )
    _await_no_lag(stack.env["KAFKA_BOOTSTRAP_SERVERS"])
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as connection:
        found = connection.execute("SELECT count(*) FROM raw_telemetry").fetchone()
    rows = int(found[0]) if found else 0
    if rows != count:
        raise RuntimeError(f"{count:,} records became {rows:,} rows")
    return Drain(
        (count - first) / seconds,
        seconds,
        rows,
        {name: (seen[0], max(seen)) for name, seen in memory.items() if seen},
    )


def _await_no_lag(bootstrap_servers: str) -> None:
    positions = Positions(bootstrap_servers, "sluice-bridge")
    deadline = time.monotonic() + 10
    while (behind := positions.lag("iot-stream")) and time.monotonic() < deadline:
        time.sleep(0.1)
    positions.close()
    if behind:
        raise RuntimeError(f"every record is done, but {behind:,} are not committed")


def _received(counters: redis.Redis) -> int:
    value = counters.hget(COUNTERS, "received")
    return int(value) if isinstance(value, bytes | str) else 0


def _sample(stack: Stack, names: Iterable[str], memory: dict[str, list[float]]) -> None:
    for name in names:
        total = sum(_resident_mib(pid) for pid in _family(stack.pid(name)))
        memory.setdefault(name, []).append(total)


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return [pid]
    return [pid, *(int(child) for child in children)]


def _resident_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except FileNotFoundError:
        return 0.0
    return 0.0
