"""How fast a backlog in Kafka becomes rows, and what each process spends on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import redis
from rich.progress import Progress

from compose.local.stack import Stack
from ingest.admin.servers.positions import Positions
from tasks.servers.redis_client import COUNTERS, OUTBOX
from tests.bench import cost, rules
from tests.bench.backlog import Backlog, Shape, rewind
from tests.bench.reference import empty

TOPIC, GROUP = "iot-stream", "sluice-bridge"
MOST_SECONDS = 600.0
SAMPLE_SECONDS = 0.5

# Called with the seconds since the first finished batch.
Sample = Callable[[float], None]


@dataclass
class Drain:
    """One run from an empty pipeline to lag 0.

    `cpu_us` is CPU time by process in microseconds per message, `redis` commands and bytes per message,
    `memory_mib` each process's resident memory, as pairs of seconds and MiB.
    """

    per_second: float
    seconds: float
    rows: int
    dead_letters: int
    alert_changes: int
    cpu_us: dict[str, float]
    redis: dict[str, float]
    memory_mib: dict[str, list[tuple[float, float]]]


def drain(stack: Stack, backlog: Backlog, progress: Progress, *, keep_rows: bool = False) -> Drain:
    """Has an empty pipeline drain the backlog; `keep_rows` leaves what the table has.

    Raises like `drained`.
    """
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        stack.stop("bridge")
        rewind(stack.env["KAFKA_BOOTSTRAP_SERVERS"], TOPIC, GROUP, backlog)
        # The states of the alerts, too, would know these readings.
        redis.Redis.from_url(stack.env["REDIS_URL"]).flushall()
        rules.forget(connection)
        if not keep_rows:
            empty(connection)
        return drained(stack, connection, backlog.shape, progress)


def drained(
    stack: Stack,
    connection: psycopg.Connection[tuple[Any, ...]],
    shape: Shape,
    progress: Progress,
    sample: Sample = lambda _: None,
) -> Drain:
    """Starts the bridge, and returns when each of the records that wait has become a row or a dead letter.

    The clock starts with the first finished batch, whose messages do not count: starting a process is not
    draining. The CPU time includes the start of the bridge. Raises `RuntimeError` when the lag is not 0 in
    time, or when not every record has become a row or a dead letter.
    """
    server = redis.Redis.from_url(stack.env["REDIS_URL"])
    rows, bad, changes = _rows(connection), _counted(server, "dead_lettered"), rules.changes(connection)
    done = received(server)
    spent, traffic = cost.cpu_seconds(stack), cost.redis_traffic(server)
    stack.start("bridge")
    memory = cost.Memory(stack)

    def look(at: float) -> None:
        memory.sample(at)
        sample(at)

    per_second, seconds = follow(server, done, shape.records, look, progress)
    spent_after, traffic_after = cost.cpu_seconds(stack), cost.redis_traffic(server)
    settle(stack)
    rows, bad = _rows(connection) - rows, _counted(server, "dead_lettered") - bad
    if rows != shape.records - shape.bad or bad != shape.bad:
        raise RuntimeError(f"{shape.records:,} records became {rows:,} rows and not {shape.bad} dead letters")
    return Drain(
        per_second,
        seconds,
        rows,
        shape.bad,
        rules.changes(connection) - changes,
        {name: (used - spent.get(name, 0.0)) / shape.records * 1e6 for name, used in spent_after.items()},
        {name: (now - traffic[name]) / shape.records for name, now in traffic_after.items()},
        memory.seen,
    )


def follow(
    server: redis.Redis, before: int, count: int, sample: Sample, progress: Progress
) -> tuple[float, float]:
    """Waits for so many messages more than before; returns messages per second, and how many seconds it took.

    It samples at the first finished batch, about every half second after it, and at the end. Raises
    `RuntimeError` after ten minutes.
    """
    deadline = time.monotonic() + MOST_SECONDS
    task = progress.add_task("drain", total=count)
    while (first := received(server) - before) == 0 and time.monotonic() < deadline:
        time.sleep(0.005)
    started = sampled = time.monotonic()
    sample(0.0)
    while (done := received(server) - before) < count and time.monotonic() < deadline:
        if time.monotonic() - sampled > SAMPLE_SECONDS:
            sampled = time.monotonic()
            sample(sampled - started)
            progress.update(task, completed=done)
        time.sleep(0.01)
    seconds = time.monotonic() - started
    sample(seconds)
    progress.remove_task(task)
    if done < count:
        raise RuntimeError(
            f"after {MOST_SECONDS:.0f} s {done:,} of {count:,} records were done; see the logs"
        )
    return (count - first) / seconds, seconds


def received(server: redis.Redis) -> int:
    """How many messages of finished batches Redis has counted."""
    return _counted(server, "received")


def settle(stack: Stack) -> None:
    """Returns when all is committed, and every change of an alert delivered. Raises `RuntimeError`."""
    _await_no_lag(stack.env["KAFKA_BOOTSTRAP_SERVERS"])
    _await_told(redis.Redis.from_url(stack.env["REDIS_URL"]))


def _await_no_lag(bootstrap_servers: str) -> None:
    positions = Positions(bootstrap_servers, GROUP)
    deadline = time.monotonic() + 10
    while (behind := positions.lag(TOPIC)) and time.monotonic() < deadline:
        time.sleep(0.1)
    positions.close()
    if behind:
        raise RuntimeError(f"every record is done, but {behind:,} are not committed")


def _await_told(server: redis.Redis) -> None:
    deadline = time.monotonic() + 30
    while (entries := server.xlen(OUTBOX)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if entries:
        raise RuntimeError(f"every record is done, but {entries} entries of the outbox are not delivered")


def _rows(connection: psycopg.Connection[tuple[Any, ...]]) -> int:
    found = connection.execute("SELECT count(*) FROM raw_telemetry").fetchone()
    return int(found[0]) if found else 0


def _counted(server: redis.Redis, name: str) -> int:
    value = server.hget(COUNTERS, name)
    return int(value) if isinstance(value, bytes | str) else 0
