"""How cost grows: with lanes, with the size of batches, and with the rows that the table has already."""

from datetime import timedelta
from typing import Any

import psycopg
from rich.progress import Progress

from compose.local.stack import Stack
from tests.bench.backlog import START, Backlog
from tests.bench.drain import Drain, drain
from tests.bench.reference import empty
from tests.bench.setting import setting

LANES = (1, 2, 4, 8)
BATCHES = (100, 1000, 4000, 8000, 10_000)
ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
# Of other users than the backlog's, in the same chunk, each device with a reading a second.
_FILL = """
    INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature, battery, extra_data)
    SELECT %s + (n / 1000) * interval '1 second',
           'other' || n % 100, 'device' || n % 1000, n / 1000, n % 65 - 20, n % 100,
           '{"rssi": -70, "firmware": "2.14.3", "location": {"lat": 50.1, "lon": 8.6}, "tags": ["zone-4"]}'
    FROM generate_series(%s::bigint, %s::bigint - 1) AS n
"""


def growth(stack: Stack, backlog: Backlog, progress: Progress) -> dict[str, list[dict[str, Any]]]:
    """One drain for each step of each of the three."""
    found: dict[str, list[dict[str, Any]]] = {"lanes": [], "batch": [], "rows": []}
    for name, variable, steps in (
        ("lanes", "LANES", LANES),
        ("batch", "BATCH_MAX_MESSAGES", BATCHES),
    ):
        for step in steps:
            with setting(stack, {variable: str(step)}):
                found[name].append(_step(step, drain(stack, backlog, progress)))
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        empty(connection)
        there, start = 0, START + timedelta(days=backlog.shape.run)
        for step in ROWS:
            task = progress.add_task(f"table of {step:,} rows", total=None)
            connection.execute(_FILL, [start, there, step])
            connection.execute("VACUUM ANALYZE raw_telemetry")
            progress.remove_task(task)
            there = step
            found["rows"].append(_step(step, drain(stack, backlog, progress, keep_rows=True)))
            connection.execute("DELETE FROM raw_telemetry WHERE user_id LIKE 'user%'")
        empty(connection)
    return found


def _step(step: int, run: Drain) -> dict[str, Any]:
    return {"at": step, "per_second": run.per_second, "cpu_us": run.cpu_us}
