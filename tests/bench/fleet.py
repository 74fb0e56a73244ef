"""What a device costs: a fleet grows to 10,000 and to 100,000 devices, a hundred of each tenant."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import redis
from rich.progress import Progress

from compose.local.stack import Stack
from tasks.servers.redis_client import DEVICES_READY
from tests.bench import cost, footprint, rules
from tests.bench.backlog import Shape, fill
from tests.bench.drain import TOPIC, drained
from tests.bench.reference import empty
from tests.integration.fleet import wait_until

OF_A_TENANT = 100
# Devices, and the readings of each after its first.
STEPS = ((10_000, 5), (100_000, 2))
# So many that batches are as large as they become, and memory with them, before anything is compared.
WARM = Shape(100_000, 90, devices_of_a_user=OF_A_TENANT)
# One is judged by the clock, and one with each reading.
OPERATORS = [
    {"id": "silent", "operator": "absent", "for_seconds": 86_400, "message": "silent"},
    {"id": "flat", "key": "battery", "operator": "<", "threshold": -1, "message": "never"},
]
REST_SECONDS, BEGIN_SECONDS, REGISTERED_SECONDS = 15.0, 5.0, 120.0
# The readings are of the last minute, by the clocks of the devices.
AGO = timedelta(minutes=1)
PROGRAMS = (*cost.SERVERS, *cost.PROCESSES, "gateway", "control", "beat")

Connection = psycopg.Connection[tuple[Any, ...]]


def fleet(stack: Stack, progress: Progress) -> list[dict[str, Any]]:
    """What each size of the fleet takes, in memory and CPU time. Raises like `drained`.

    First the processes work on a hundred thousand messages of 90 devices; that is the state before.
    """
    server = redis.Redis.from_url(stack.env["REDIS_URL"])
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        stack.stop("bridge")
        empty(connection)
        connection.execute("TRUNCATE devices, device_days, rollups_hourly, rollups_daily")
        rules.set_rules(connection, Shape(0, STEPS[-1][0], 0, OF_A_TENANT).users, operators=OPERATORS)
        server.flushall()
        # The registry counts what Redis has lost from the rows, of which there are none.
        wait_until(lambda: bool(server.exists(DEVICES_READY)), REGISTERED_SECONDS, "the registry to count")
        _phase(stack, connection, WARM, progress)
        steps = [_step(stack, server, connection, WARM.devices, {}, progress)]
        begin = _begin_of_bridge(stack)
        for devices, readings in STEPS:
            known, start = steps[-1]["devices"], datetime.now(UTC) - AGO
            phases = {
                "first": Shape(devices - known, devices, 0, OF_A_TENANT, known, start),
                "later": Shape(devices * readings, devices, 0, OF_A_TENANT, devices, start),
            }
            spent = {
                name: (shape.records, *_phase(stack, connection, shape, progress))
                for name, shape in phases.items()
            }
            step = _step(stack, server, connection, devices, spent, progress, begin)
            steps.append(step | {"per_device": per_device(steps[-1], step)})
            progress.console.print(f"{devices:,} devices: {steps[-1]}", soft_wrap=True, highlight=False)
    return steps


def per_device(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The bytes that each further device has added: to processes, kinds of keys in Redis, and tables."""
    devices = after["devices"] - before["devices"]
    return {
        kind: {name: (size - before[kind].get(name, 0)) / devices for name, size in after[kind].items()}
        for kind in ("process_bytes", "redis_bytes", "table_bytes")
    }


def of_a_message(
    spent: Mapping[str, float], rest: Mapping[str, float], records: int, seconds: float
) -> dict[str, float]:
    """The µs of CPU time of each program for a message, less what the program needs at rest meanwhile."""
    return {name: (used - rest.get(name, 0.0) * seconds) / records * 1e6 for name, used in spent.items()}


def _phase(
    stack: Stack, connection: Connection, shape: Shape, progress: Progress
) -> tuple[float, dict[str, float]]:
    """Has the fleet's readings stored, judged and counted: for how long, and the CPU time (s) by program."""
    stack.stop("bridge")
    fill(stack.env["KAFKA_BOOTSTRAP_SERVERS"], TOPIC, shape, progress)
    counted = _counted(connection) + shape.records
    spent, begun = cost.cpu_seconds(stack, PROGRAMS), time.monotonic()
    run = drained(stack, connection, shape, progress)
    wait_until(lambda: _counted(connection) >= counted, REGISTERED_SECONDS, "the registry to have all")
    seconds, after = time.monotonic() - begun, cost.cpu_seconds(stack, PROGRAMS)
    progress.console.print(
        f"{shape.records:,} readings of {shape.devices:,} devices: {run.per_second:,.0f}/s, "
        f"{run.alert_changes:,} changes of alerts, load average {os.getloadavg()[0]:.1f}"
    )
    return seconds, {name: used - spent.get(name, 0.0) for name, used in after.items()}


def _step(
    stack: Stack,
    server: redis.Redis,
    connection: Connection,
    devices: int,
    phases: Mapping[str, tuple[int, float, dict[str, float]]],
    progress: Progress,
    begin: float = 0.0,
) -> dict[str, Any]:
    task = progress.add_task(f"{devices:,} devices at rest", total=None)
    before = cost.cpu_seconds(stack, PROGRAMS)
    time.sleep(REST_SECONDS)
    after = cost.cpu_seconds(stack, PROGRAMS)
    rest = {name: (used - before[name]) / REST_SECONDS for name, used in after.items()}
    redis_keys, tables = footprint.of_redis(server), footprint.of_tables(connection)
    progress.remove_task(task)
    return {
        "devices": devices,
        "rest_cpu": rest,
        "cpu_us": {
            name: of_a_message(used | {"bridge": used["bridge"] - begin}, rest, records, seconds)
            for name, (records, seconds, used) in phases.items()
        },
        "process_bytes": footprint.of_processes(stack),
        "redis_bytes": {kind: size for kind, (_, size) in redis_keys.items()},
        "redis_keys": {kind: number for kind, (number, _) in redis_keys.items()},
        "table_bytes": {table: size for table, (_, size) in tables.items()},
        "table_rows": {table: number for table, (number, _) in tables.items()},
    }


def _begin_of_bridge(stack: Stack) -> float:
    """The CPU time that a bridge has used when it has begun, with nothing to read."""
    stack.restart("bridge")
    time.sleep(BEGIN_SECONDS)
    return cost.cpu_seconds(stack, ("bridge",))["bridge"]


def _counted(connection: Connection) -> int:
    """How many messages the registry has counted."""
    found = connection.execute("SELECT coalesce(sum(messages + dead_letters), 0) FROM device_days").fetchone()
    return int(found[0]) if found else 0
