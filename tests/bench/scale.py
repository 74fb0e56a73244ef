"""How the rate grows with workers, and with bridges, each with the same small share of a core."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import redis
from confluent_kafka.admin import AdminClient
from rich.progress import Progress

from compose.local.stack import Stack
from tests.bench import cost, rules
from tests.bench.backlog import Backlog, fill, rewind
from tests.bench.drain import GROUP, TOPIC, drained, follow, received, settle
from tests.bench.growth import spread
from tests.bench.reference import empty
from tests.bench.setting import setting
from tests.bench.share import limited
from tests.integration.fleet import wait_until
from tests.integration.second_process import Second, module, second

# Four workers and the servers that they need fit into two cores, and so do two bridges and whole workers.
WORKER_SHARE, BRIDGE_SHARE = 0.1, 0.05
WORKERS, BRIDGES, ROUNDS = (1, 2, 4), (1, 2), 3
RECORDS, DEVICES = 60_000, 1000
# As many lanes as workers at most, and batches so small that the last ones decide little.
SETTINGS = {"LANES": "4", "BATCH_MAX_MESSAGES": "2000"}
READY_SECONDS = 90.0
WORKER = "celery -A tasks worker --queues=process,db --concurrency=1 --without-mingle --without-gossip"
STAT = Path("/proc/stat")


class Round(NamedTuple):
    """One drain by so many processes, of which each may use `share` of a core.

    `used` is how much of their shares they used, `idle` how much of the machine's time nobody used, and
    `cpu_us` what a message cost them.
    """

    processes: int
    per_second: float
    used: float
    idle: float
    cpu_us: float


def scale(stack: Stack, backlog: Backlog, rounds: int, progress: Progress) -> dict[str, Any]:
    """Rates with 1, 2 and 4 workers and with 1 and 2 bridges, in turn, so many times. Raises `ShareError`.

    Beat rests, so that all that the processes do is for the messages.
    """
    stack.stop("beat")
    try:
        with setting(stack, SETTINGS):
            stack.stop("worker")
            of_workers = _rounds(WORKERS, rounds, partial(_workers, stack, backlog, progress), progress)
            stack.start("worker")
            stack.stop("bridge")
            of_bridges = _rounds(BRIDGES, rounds, partial(_bridges, stack, backlog, progress), progress)
    finally:
        stack.start("beat")
    return {
        "records": backlog.shape.records,
        "devices": backlog.shape.devices,
        "workers": {"share": WORKER_SHARE, "steps": summary(of_workers)},
        "bridges": {"share": BRIDGE_SHARE, "steps": summary(of_bridges)},
    }


def efficiencies(rates: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
    """For each number of processes and round: its rate by that number times the rate of one in that round.

    Raises `KeyError` where one alone was not measured.
    """
    return {
        count: [rate / (count * alone) for rate, alone in zip(of_count, rates[1], strict=True)]
        for count, of_count in rates.items()
    }


def summary(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """For each number of processes the spread of what was measured, and its efficiency."""
    counts = sorted({one.processes for one in rounds})
    by_count = {count: [one for one in rounds if one.processes == count] for count in counts}
    found = efficiencies({count: [one.per_second for one in own] for count, own in by_count.items()})
    return [
        {
            "processes": count,
            "per_second": spread([one.per_second for one in own]),
            "efficiency": spread(found[count]),
            "used": spread([one.used for one in own]),
            "idle": spread([one.idle for one in own]),
            "cpu_us": spread([one.cpu_us for one in own]),
        }
        for count, own in by_count.items()
    ]


def idle_and_all(stat: str) -> tuple[int, int]:
    """The time that the machine's CPUs had nothing to do, and all their time, as `/proc/stat` has it."""
    numbers = [int(number) for number in stat.splitlines()[0].split()[1:9]]
    # Waiting for a disk is idle time, too.
    return numbers[3] + numbers[4], sum(numbers)


def _rounds(
    counts: Sequence[int], rounds: int, measure: Callable[[int], Round], progress: Progress
) -> list[Round]:
    """Each count in turn, so many times, there and back: a machine that gets slower slows each of them."""
    found = []
    for number in range(rounds):
        for count in counts[:: -1 if number % 2 else 1]:
            one = measure(count)
            found.append(one)
            progress.console.print(
                f"{count} processes: {one.per_second:,.0f}/s, {one.used:.0%} of their shares used, "
                f"{one.cpu_us:.0f} µs a message; the machine was {one.idle:.0%} idle, "
                f"load average {os.getloadavg()[0]:.1f}"
            )
    return found


def _workers(stack: Stack, backlog: Backlog, progress: Progress, count: int) -> Round:
    """A drain by workers of their own, started before they are limited: a start takes seconds of a core."""
    with ExitStack() as opened:
        workers = [
            opened.enter_context(
                second(
                    stack,
                    [sys.executable, "-m", *WORKER.split(), f"--hostname=scale{number}@%h"],
                    "METRICS_PORT",
                    stack.layout.log("scale-worker"),
                )
            )
            for number in range(count)
        ]
        _await_ready(workers)
        look = _limit(opened, workers, WORKER_SHARE)
        with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
            stack.stop("bridge")
            _clear(stack, connection)
            rewind(stack.env["KAFKA_BOOTSTRAP_SERVERS"], TOPIC, GROUP, backlog)
            run = drained(stack, connection, backlog.shape, progress, look)
        return look.round(count, run.per_second, WORKER_SHARE)


def _bridges(stack: Stack, backlog: Backlog, progress: Progress, count: int) -> Round:
    """A backlog that comes when all bridges have their partitions; the clock starts when it is all there."""
    server = redis.Redis.from_url(stack.env["REDIS_URL"])
    log = stack.layout.log("scale-bridge")
    with (
        psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection,
        ExitStack() as opened,
    ):
        _clear(stack, connection)
        command = module("ingest.bridge")
        bridges = [
            opened.enter_context(second(stack, command, "BRIDGE_METRICS_PORT", log)) for _ in range(count)
        ]
        _await_ready(bridges)
        wait_until(lambda: _members(stack) == count, READY_SECONDS, "each bridge to have partitions")
        look = _limit(opened, bridges, BRIDGE_SHARE)
        fill(stack.env["KAFKA_BOOTSTRAP_SERVERS"], TOPIC, backlog.shape, progress)
        before = received(server)
        left = backlog.shape.records - before
        per_second, _ = follow(server, before, left, look, progress)
        settle(stack)
        return look.round(count, per_second, BRIDGE_SHARE)


def _clear(stack: Stack, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    redis.Redis.from_url(stack.env["REDIS_URL"]).flushall()
    rules.forget(connection)
    empty(connection)


def _await_ready(processes: Sequence[Second]) -> None:
    for one in processes:
        wait_until(partial(_is_ready, one), READY_SECONDS, f"{one.log.stem} to be ready")


def _is_ready(one: Second) -> bool:
    return one.ready().startswith("ok")


def _members(stack: Stack) -> int:
    """How many bridges have partitions."""
    admin = AdminClient({"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"]})
    group = admin.describe_consumer_groups([GROUP])[GROUP].result(READY_SECONDS)
    return sum(bool(member.assignment and member.assignment.topic_partitions) for member in group.members)


class _Look:
    """The CPU time of some processes and of the machine, at the first look and at the last."""

    def __init__(self, processes: Sequence[Second]) -> None:
        self._processes = [one.process.pid for one in processes]
        self._seen: list[tuple[float, float, int, int]] = []

    def __call__(self, at: float) -> None:
        used = sum(sum(cost.cpu_of(pid)) for pid in self._processes)
        self._seen = [*self._seen[:1], (at, used, *idle_and_all(STAT.read_text()))]

    def round(self, count: int, per_second: float, share: float) -> Round:
        """What the looks say, of a drain at this rate."""
        (begun, *first), (ended, *last) = self._seen
        seconds = ended - begun
        used, idle, all_time = (after - before for before, after in zip(first, last, strict=True))
        return Round(
            count,
            per_second,
            used / (count * share * seconds),
            idle / all_time,
            used / (per_second * seconds) * 1e6,
        )


def _limit(opened: ExitStack, processes: Sequence[Second], share: float) -> _Look:
    for number, one in enumerate(processes):
        opened.enter_context(limited(f"sluice-bench-{os.getpid()}-{number}", one.process.pid, share))
    return _Look(processes)
