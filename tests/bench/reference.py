"""The mark of the benchmark: what the database itself takes, by COPY from one connection."""

import time

import psycopg

from tasks.telemetry import DOMAIN

BATCH = 4000


def rows_per_second(database_url: str, lines: list[bytes]) -> float:
    """Writes the rows as text COPY in transactions of 4,000 rows and returns rows per second.

    The lines are made beforehand, so only the database is measured. The rows are removed afterwards.
    """
    batches = [b"".join(lines[start : start + BATCH]) for start in range(0, len(lines), BATCH)]
    with psycopg.connect(database_url, autocommit=True) as connection:
        empty(connection)
        started = time.perf_counter()
        for batch in batches:
            with connection.cursor().copy(DOMAIN.copy) as copy:
                copy.write(batch)
        elapsed = time.perf_counter() - started
        empty(connection)
    return len(lines) / elapsed


def empty(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Removes all rows, so that each run starts alike."""
    connection.execute("TRUNCATE raw_telemetry")
