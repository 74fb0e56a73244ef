"""The mark of the benchmark: what the database itself takes, by COPY from one connection."""

import time

import psycopg

from tasks.registry import limits
from tasks.telemetry import DOMAIN
from tests.bench.backlog import records

BATCH = 4000


def rows_per_second(database_url: str, count: int, devices: int, run: int) -> float:
    """Writes the rows of `run` as text COPY in transactions of 4,000 rows and returns rows per second.

    The lines are made beforehand, so only the database is measured. The rows are removed afterwards.
    """
    bounds = limits()
    lines = [DOMAIN.validate(r.topic, r.value, 0, bounds).copy_line for r in records(count, devices, run)]
    batches = [b"".join(lines[start : start + BATCH]) for start in range(0, count, BATCH)]
    with psycopg.connect(database_url, autocommit=True) as connection:
        empty(connection)
        started = time.perf_counter()
        for batch in batches:
            with connection.cursor().copy(DOMAIN.copy) as copy:
                copy.write(batch)
        elapsed = time.perf_counter() - started
        empty(connection)
    return count / elapsed


def empty(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Removes all rows, so that each run starts alike."""
    connection.execute("TRUNCATE raw_telemetry")
