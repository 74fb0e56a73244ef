"""Writing rows: all of them, each once, and what the database refuses by itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tasks import store
from tasks.batch import Row
from tasks.payload import Limits
from tasks.telemetry import DOMAIN


def rows(run: str, numbers: range, temperature: float = 20.5) -> list[Row]:
    """Rows of one device, with their number as offset."""
    topic = f"users/{run}/devices/d/telemetry"
    return [
        Row(0, n, DOMAIN.validate(topic, _payload(n, temperature), 0, Limits()).copy_line) for n in numbers
    ]


def _payload(number: int, temperature: float) -> bytes:
    return b'{"sequence_id": %d, "time": "2026-03-02T10:00:00Z", "temperature": %f}' % (number, temperature)


def stored(database: psycopg.Connection[tuple[Any, ...]], run: str) -> list[int]:
    """The stored sequence ids of the run."""
    found = database.execute(
        "SELECT sequence_id FROM raw_telemetry WHERE user_id = %s ORDER BY sequence_id", [run]
    )
    return [int(sequence_id) for (sequence_id,) in found.fetchall()]


@pytest.fixture
def cold_only(database: psycopg.Connection[tuple[Any, ...]]) -> Iterator[None]:
    """A database that refuses temperatures of 1000 and more."""
    database.execute("ALTER TABLE raw_telemetry ADD CONSTRAINT cold CHECK (temperature < 1000) NOT VALID")
    yield
    database.execute("ALTER TABLE raw_telemetry DROP CONSTRAINT cold")


def test_rows_that_are_there_already_are_passed_over(database: psycopg.Connection[tuple[Any, ...]]) -> None:
    """A batch that runs again adds only what is missing, and says how many rows were new."""
    run = uuid4().hex[:8]
    assert store.write(database, DOMAIN, rows(run, range(100))) == (100, [])
    assert store.write(database, DOMAIN, rows(run, range(50, 150))) == (50, [])
    assert store.write(database, DOMAIN, rows(run, range(150))) == (0, [])
    assert stored(database, run) == list(range(150))


def test_rows_of_very_many_days_go_in_several_transactions(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    """A device with a wild clock touches many chunks, and no transaction may lock them all."""
    run = uuid4().hex[:8]
    start = datetime(2001, 1, 1, tzinfo=UTC)
    batch = rows(run, range(250))
    for number in range(250):
        day = f"{start + timedelta(days=number * 7 % 250):%Y-%m-%d}".encode()
        batch[number] = batch[number]._replace(line=day + batch[number].line[10:])
    assert store.write(database, DOMAIN, batch) == (250, [])
    days = database.execute(
        "SELECT count(*) FROM raw_telemetry WHERE user_id = %s GROUP BY xmin::text", [run]
    ).fetchall()
    assert len(days) > 1
    assert max(int(count) for (count,) in days) <= store.MOST_DAYS


def test_two_equal_rows_in_one_batch_are_one_row(database: psycopg.Connection[tuple[Any, ...]]) -> None:
    """A gateway that sent a message twice does not make two rows of it."""
    run = uuid4().hex[:8]
    assert store.write(database, DOMAIN, rows(run, range(10)) * 2) == (10, [])
    assert stored(database, run) == list(range(10))


@pytest.mark.usefixtures("cold_only")
def test_a_row_that_the_database_refuses_is_found_alone(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    """Its neighbours are stored, and the reason is the database's own."""
    run = uuid4().hex[:8]
    batch = rows(run, range(200))
    batch[77:78] = rows(run, range(77, 78), temperature=5000.0)
    batch[199:200] = rows(run, range(199, 200), temperature=5000.0)
    inserted, refused = store.write(database, DOMAIN, batch)
    assert inserted == 198
    assert [row.offset for row, _ in refused] == [77, 199]
    assert all("cold" in reason and "23514" in reason for _, reason in refused)
    assert stored(database, run) == [n for n in range(200) if n not in {77, 199}]
