"""How cost grows: with lanes, the size of batches, rows that are there already, alert rules, and devices."""

import statistics
from datetime import timedelta
from typing import Any

import psycopg
from rich.progress import Progress

from compose.local.stack import Stack
from tests.bench import rules
from tests.bench.backlog import START, Backlog
from tests.bench.drain import Drain, drain
from tests.bench.reference import empty
from tests.bench.setting import setting

LANES = (1, 2, 4, 8)
BATCHES = (100, 1000, 4000, 8000, 16_000)
RULES = (0, 5, 50)
DEVICES = (90, 1000, 10_000, 100_000)
ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
# Devices of other users than the backlog's, in the same chunk, each device with a reading a second.
_FILL = """
    INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature, battery, extra_data)
    SELECT %s + (n / 1000) * interval '1 second',
           'other' || n %% 100, 'device' || n %% 1000, n / 1000, n %% 65 - 20, n %% 100,
           '{"rssi": -70, "firmware": "2.14.3", "location": {"lat": 50.1, "lon": 8.6}, "tags": ["zone-4"]}'
    FROM generate_series(%s::bigint, %s::bigint - 1) AS n
"""


def growth(
    stack: Stack, backlog: Backlog, repeats: int, progress: Progress
) -> dict[str, list[dict[str, Any]]]:
    """Drains for each step of each of the three, so many times in turn; with rows, in turn within a step."""
    drain(stack, backlog, progress)  # a Kafka that has just started spends most on compiling itself
    found = {
        "lanes": _in_turn(stack, backlog, "LANES", LANES, repeats, progress),
        "batch": _in_turn(stack, backlog, "BATCH_MAX_MESSAGES", BATCHES, repeats, progress),
        "rows": [],
    }
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        empty(connection)
        there, start = 0, START + timedelta(days=backlog.shape.run)
        for step in ROWS:
            task = progress.add_task(f"table of {step:,} rows", total=None)
            connection.execute(_FILL, [start, there, step])
            connection.execute("VACUUM ANALYZE raw_telemetry")
            progress.remove_task(task)
            there = step
            runs = []
            for _ in range(repeats):
                runs.append(drain(stack, backlog, progress, keep_rows=True))
                connection.execute("DELETE FROM raw_telemetry WHERE user_id LIKE 'user%'")
            found["rows"].append(_step("rows", step, runs, progress))
        empty(connection)
    return found


def of_rules(
    stack: Stack, backlog: Backlog, repeats: int, progress: Progress
) -> dict[str, list[dict[str, Any]]]:
    """Drains with so many rules for every user, of all kinds in turn, and so many times in turn."""
    drain(stack, backlog, progress)  # as above
    runs: dict[int, list[Drain]] = {count: [] for count in RULES}
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        for _ in range(repeats):
            for count in RULES:
                rules.set_rules(connection, backlog.shape.users, rules.of_these_kinds(count))
                runs[count].append(drain(stack, backlog, progress))
    return {"rules": [_step("rules of a user", count, runs[count], progress) for count in RULES]}


def of_devices(stack: Stack, backlog: Backlog, repeats: int, progress: Progress) -> dict[str, Any]:
    """Drains of one backlog so many times, and the most memory that each process took (MiB)."""
    drain(stack, backlog, progress)  # as above
    runs = [drain(stack, backlog, progress) for _ in range(repeats)]
    most = {
        name: max(size for run in runs for _, size in run.memory_mib[name]) for name in runs[0].memory_mib
    }
    progress.console.print(", ".join(f"{name} {size:.0f} MiB" for name, size in most.items()))
    return _step("devices", backlog.shape.devices, runs, progress) | {"memory_mib": most}


def _in_turn(
    stack: Stack, backlog: Backlog, variable: str, steps: tuple[int, ...], repeats: int, progress: Progress
) -> list[dict[str, Any]]:
    runs: dict[int, list[Drain]] = {step: [] for step in steps}
    for _ in range(repeats):
        for step in steps:
            with setting(stack, {variable: str(step)}):
                runs[step].append(drain(stack, backlog, progress))
    return [_step(variable, step, of_step, progress) for step, of_step in runs.items()]


def _step(what: str, step: int, runs: list[Drain], progress: Progress) -> dict[str, Any]:
    rates, costs = [run.per_second for run in runs], [sum(run.cpu_us.values()) for run in runs]
    progress.console.print(
        f"{what} {step:,}: {', '.join(f'{one:,.0f}' for one in rates)}/s, "
        f"CPU {', '.join(f'{one:.0f}' for one in costs)} µs a message"
    )
    return {"at": step, "per_second": spread(rates), "cpu_us": spread(costs)}


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}
