"""Writing rows: all of them, each once, and what the database refuses by itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tasks.batch.messages import Row
from tasks.domain.payload import Limits
from tasks.rows import write
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
    assert write.write(database, DOMAIN, rows(run, range(100))) == (100, [])
    assert write.write(database, DOMAIN, rows(run, range(50, 150))) == (50, [])
    assert write.write(database, DOMAIN, rows(run, range(150))) == (0, [])
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
    assert write.write(database, DOMAIN, batch) == (250, [])
    days = database.execute(
        "SELECT count(*) FROM raw_telemetry WHERE user_id = %s GROUP BY xmin::text", [run]
    ).fetchall()
    assert len(days) > 1
    assert max(int(count) for (count,) in days) <= write.MOST_DAYS


def test_two_equal_rows_in_one_batch_are_one_row(database: psycopg.Connection[tuple[Any, ...]]) -> None:
    """A gateway that sent a message twice does not make two rows of it."""
    run = uuid4().hex[:8]
    assert write.write(database, DOMAIN, rows(run, range(10)) * 2) == (10, [])
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
    inserted, refused = write.write(database, DOMAIN, batch)
    assert inserted == 198
    assert [one.row.offset for one in refused] == [77, 199]
    assert all("cold" in one.reason and "23514" in one.reason for one in refused)
    assert stored(database, run) == [n for n in range(200) if n not in {77, 199}]


def conflicting(refused: list[write.Unstored]) -> dict[int, Any]:
    """The temperatures that are stored in the place of the conflicting rows, by their offsets."""
    assert {one.error_type for one in refused} <= {"Conflict"}
    return {one.row.offset: (one.stored or {})["temperature"] for one in refused}


def test_another_reading_with_a_stored_key_is_a_conflict(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    """The first is stored, and named; the same batch once more finds the same conflicts and no others."""
    run = uuid4().hex[:8]
    assert write.write(database, DOMAIN, rows(run, range(100), temperature=4.0)) == (100, [])
    later = rows(run, range(98, 102), temperature=19.0)
    for inserted in (2, 0):
        written, refused = write.write(database, DOMAIN, later)
        assert (written, conflicting(refused)) == (inserted, {98: 4.0, 99: 4.0})
        assert refused[0].reason == (
            "a reading with this time, user_id, device_id, sequence_id is stored with other values:"
            " temperature"
        )
    assert (refused[0].stored or {}) == {
        "time": "2026-03-02T10:00:00+00:00",
        "user_id": run,
        "device_id": "d",
        "sequence_id": 98,
        "temperature": 4.0,
        "battery": None,
        "extra_data": {},
    }


def test_of_two_readings_with_one_key_in_a_batch_the_first_in_kafka_is_stored(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    """In whatever order the parts of the batch come, and however often the first comes again."""
    run = uuid4().hex[:8]
    first, second, third = (rows(run, range(1), value)[0] for value in (4.0, 19.0, 4.0))
    batch = [second._replace(offset=7), first._replace(offset=3), third._replace(offset=8)]
    for inserted in (1, 0):
        written, refused = write.write(database, DOMAIN, batch)
        assert (written, conflicting(refused)) == (inserted, {7: 4.0})


def test_the_same_reading_written_otherwise_is_no_conflict(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    """White space, the order of members, a number's notation and the offset of the time do not count."""
    topic = f"users/{uuid4().hex[:8]}/devices/d/telemetry"
    payloads = [
        b'{"sequence_id": 1, "time": "2026-03-02T10:00:00Z", "temperature": 20, "a": 1, "b": {"c": 2}}',
        b'{"b":{"c":2},"a":1.0,"time":"2026-03-02T12:00:00+02:00","temperature":2e1,"sequence_id":1}',
        b'{"sequence_id": 1, "time": "2026-03-02T10:00:00Z", "temperature": 20, "a": 1, "b": {"c": 4}}',
    ]
    batch = [
        Row(0, n, DOMAIN.validate(topic, payload, 0, Limits()).copy_line)
        for n, payload in enumerate(payloads)
    ]
    inserted, refused = write.write(database, DOMAIN, batch)
    assert (inserted, [one.row.offset for one in refused]) == (1, [2])
    assert "extra_data" in refused[0].reason


def test_a_very_large_stored_row_is_named_by_its_key_alone(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    """Dead letters of a whole batch must fit into memory, and into Kafka."""
    user = uuid4().hex[:8]
    lines = [
        DOMAIN.validate(
            f"users/{user}/devices/d/telemetry",
            b'{"sequence_id": 1, "time": "2026-03-02T10:00:00Z", "text": "%s"}' % (letter * 20_000),
            0,
            Limits(),
        ).copy_line
        for letter in (b"a", b"b")
    ]
    _, refused = write.write(database, DOMAIN, [Row(0, n, line) for n, line in enumerate(lines)])
    assert [one.stored for one in refused] == [
        {"time": "2026-03-02T10:00:00+00:00", "user_id": user, "device_id": "d", "sequence_id": 1}
    ]


@pytest.mark.parametrize(
    ("does", "state"),
    [("PERFORM pg_sleep(60);", "57014"), ("RAISE EXCEPTION 'too much' USING ERRCODE = '54000';", "54000")],
)
def test_a_row_that_fails_again_and_again_is_refused(
    database: psycopg.Connection[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, does: str, state: str
) -> None:
    """It is found by halving, and the others are stored."""
    monkeypatch.setattr(write, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(write, "PROBE_SECONDS", 1.0)
    run = uuid4().hex[:8]
    database.execute(
        f"CREATE FUNCTION hot_{run}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.user_id = '{run}' AND NEW.sequence_id = 3 THEN {does} END IF; RETURN NEW; END $$;"
        f"CREATE TRIGGER hot_{run} BEFORE INSERT ON raw_telemetry FOR EACH ROW EXECUTE FUNCTION hot_{run}()"
    )
    try:
        inserted, refused = write.write(database, DOMAIN, rows(run, range(8)), 1.0)
    finally:
        database.execute(f"DROP FUNCTION hot_{run} CASCADE")
    assert inserted == 7
    assert [one.row.offset for one in refused] == [3]
    assert state in refused[0].reason
    assert stored(database, run) == [0, 1, 2, 4, 5, 6, 7]


def test_a_table_that_takes_nothing_refuses_nothing(
    stack: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """While somebody else holds it, rows wait."""
    run = uuid4().hex[:8]
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as other, other.transaction():
        other.execute("LOCK TABLE raw_telemetry")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            write.write(database, DOMAIN, rows(run, range(8)), 1.0)
    assert stored(database, run) == []
