"""Rollups are what a GROUP BY over the rows says, and retention removes no row before it has its rollups."""

import io
import random
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from ingest.admin.erasure import erase_rows, erase_tables
from ingest.admin.erasure.erase_tables import Target
from ingest.admin.rows import export, import_rows
from tasks.registry import default
from tasks.roll_up import expire
from tasks.rollups import behind, make, statements
from tasks.servers.redis_client import ROLLUPS_COMPLETE, client
from tests.conftest import forget_servers
from tests.integration.rolled import Database, migrate, rolled, row, some, store

__all__ = ["rolled"]

EVERYTHING = 2**31 - 1
NOW = datetime.now(UTC)
DAYS = timedelta(days=1)
DAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=20)
FAR = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)

GROUPED: LiteralString = """
SELECT user_id, device_id, key, date_trunc({unit}, time, 'UTC'), count(*), min(value), max(value), sum(value),
    (array_agg(value ORDER BY time DESC, value DESC))[1]
FROM raw_telemetry, LATERAL (VALUES ('temperature', temperature), ('battery', battery)) AS v (key, value)
WHERE value BETWEEN -1e290 AND 1e290 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
ROLLED: LiteralString = """
SELECT user_id, device_id, key, {column}::timestamp AT TIME ZONE 'UTC', count, min, max, sum, last
FROM {table} ORDER BY 1, 2, 3, 4
"""


def check(database: Database) -> int:
    """Fails unless the rollups are what the rows say; returns how many there are."""
    total = 0
    for unit, table, column in (("hour", "rollups_hourly", "hour"), ("day", "rollups_daily", "day")):
        expected = database.execute(sql.SQL(GROUPED).format(unit=sql.Literal(unit))).fetchall()
        made = database.execute(
            sql.SQL(ROLLED).format(table=sql.Identifier(table), column=sql.Identifier(column))
        ).fetchall()
        assert made == expected, unit
        total += len(made)
    return total


def test_rollups_are_exact_whatever_comes_late_twice_or_is_killed(
    rolled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows from before, late ones, duplicates, hostile values and times; a killed run changes nothing."""
    chance = random.Random(7)
    before = some(chance, 500, DAY, 60)
    wild = [row(1000, FAR, "a", 1e300, 3), row(1001, datetime(1, 1, 1, tzinfo=UTC), "a", 2.5, None)]
    store(rolled, before + wild)
    assert rolled.execute("SELECT FROM rollup_marks").rowcount == 0
    assert make.run(60)
    assert check(rolled) > 100
    assert rolled.execute("SELECT complete FROM rollup_progress").fetchone() == (True,)

    late = some(chance, 40, DAY, 30, first=2000)
    store(rolled, late + before[:100])
    store(rolled, late)
    now = [row(3000 + n, NOW - timedelta(seconds=n), f"d{n}", 1.25, None) for n in range(150)]
    many = [row(4000 + n, DAY + timedelta(hours=70, seconds=n), f"d{n}", 0.5, 7) for n in range(150)]
    store(rolled, now + many)
    assert make.run(60), "what has just come may not be over"
    marked = rolled.execute("SELECT id FROM rollup_marks ORDER BY id").fetchall()
    assert marked
    with monkeypatch.context() as broken:
        broken.setattr(statements, "DAILY", "SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(psycopg.OperationalError):
            make.run(60, EVERYTHING)
    assert rolled.execute("SELECT id FROM rollup_marks ORDER BY id").fetchall() == marked

    with psycopg.connect(rolled.info.dsn, password=rolled.info.password) as writer:
        writer.execute("SELECT")  # begins a transaction
        store(writer, some(chance, 30, DAY, 60, first=5000))
        assert make.run(60, EVERYTHING)
        assert rolled.execute("SELECT FROM rollup_marks").rowcount == 0
        check(rolled)
    assert rolled.execute("SELECT FROM rollup_marks").rowcount > 0, "committed after the run"
    assert make.run(60, EVERYTHING)
    made = check(rolled)
    monkeypatch.setenv("ROLLUPS", "false")
    forget_servers()
    make.run(60)
    store(rolled, some(chance, 30, DAY + timedelta(days=5), 60, first=6000))
    assert rolled.execute("SELECT FROM rollup_marks").rowcount == 0
    monkeypatch.setenv("ROLLUPS", "true")
    forget_servers()
    make.run(60)
    assert check(rolled) > made


def test_rollups_go_with_the_last_value_of_their_hour(rolled: Database) -> None:
    """Rows that SQL has changed or removed need a mark alone: of all devices, or of those that it names."""
    rows = [
        row(number, DAY + timedelta(hours=hour), device, 1.5, 7)
        for number, (device, hour) in enumerate((device, hour) for device in "ab" for hour in (3, 3, 5, 30))
    ]
    store(rolled, rows)
    assert make.run(60)
    assert check(rolled) == 28
    mark = "INSERT INTO rollup_marks (domain, hour, users, devices) VALUES ('telemetry', %s, %s, %s)"
    first = int(DAY.timestamp()) // 3600
    rolled.execute(
        "UPDATE raw_telemetry SET battery = NULL WHERE device_id = 'a' AND time < %s", [DAY + DAYS]
    )
    rolled.execute(mark, [first + 3, ["u0", "u1"], ["a", "a"]])
    rolled.execute(mark, [first + 5, None, None])
    rolled.execute("DELETE FROM raw_telemetry WHERE device_id = 'b' AND time > %s", [DAY + DAYS])
    rolled.execute(mark, [first + 30, None, None])
    assert make.run(60, EVERYTHING)
    assert check(rolled) < 28


def test_what_the_database_refuses_of_an_hour_holds_up_no_other(
    rolled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rests, and is made later; retention goes on with the tables that are in order.

    Until it is made, the domain's rollups count as behind.
    """

    def behind_since_1970() -> bool:
        return behind.seconds()["telemetry"] > 1e9

    make.switch(default(), on=True)
    client().hset(ROLLUPS_COMPLETE, "telemetry", 0)
    assert make.run(60)
    assert not behind_since_1970()
    client().hset(ROLLUPS_COMPLETE, "telemetry", 0)
    bad, good = row(1, DAY, "a", 1.0, 1), row(2, DAY + timedelta(hours=2), "a", 2.0, 2)
    store(rolled, [bad])
    store(rolled, [good])
    rolled.execute(
        sql.SQL("ALTER TABLE rollups_hourly ADD CONSTRAINT refused CHECK (hour > {})").format(
            sql.Literal(DAY)
        )
    )
    with pytest.raises(psycopg.errors.CheckViolation):
        make.run(60, EVERYTHING)
    assert make.run(60, EVERYTHING)
    assert rolled.execute("SELECT count(*) FROM rollup_marks").fetchone() == (1,)
    assert rolled.execute("SELECT DISTINCT hour FROM rollups_hourly").fetchall() == [
        (DAY + timedelta(hours=2),)
    ]
    assert behind_since_1970()
    rolled.execute("ALTER TABLE rollups_hourly DROP CONSTRAINT refused")
    monkeypatch.setattr(make, "_resting", {})
    assert make.run(60, EVERYTHING)
    assert check(rolled) == 8
    assert not behind_since_1970()
    monkeypatch.setenv("ROLLUPS", "false")
    forget_servers()
    assert make.run(60)
    assert behind.seconds() == {}


def test_old_rows_are_rolled_up_although_retention_came_first(rolled: Database, empty: str) -> None:
    """Rollups that are switched on after years are made of all rows, before any row or rollup is removed."""
    long_ago = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1000)
    store(rolled, [row(number, long_ago + timedelta(days=number), "a", 1.0, 1) for number in range(4)])
    removed = "SELECT sluice_expire('rollups_hourly', 10)"
    assert rolled.execute(removed).fetchone() == (0,), "there are none yet"
    make.switch(default(), on=True)
    assert migrate(empty, RETENTION_DAYS="90") == 0
    assert rolled.execute(removed).fetchone() == (None,), "those of old rows are not made yet"
    expire()
    assert rolled.execute("SELECT count(*) FROM raw_telemetry").fetchone() == (0,)
    assert rolled.execute("SELECT count(*), sum(count) FROM rollups_daily").fetchone() == (8, 8)


def test_a_day_of_rollups_goes_when_it_is_too_old_in_utc(rolled: Database, empty: str) -> None:
    """Whatever the time zone of the database is."""
    today = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    store(rolled, [row(number, today - timedelta(days=number), "a", 1.0, 1) for number in (4, 5, 6)])
    make.run(60)
    assert migrate(empty, ROLLUP_DAILY_DAYS="5") == 0
    rolled.execute("SET timezone = 'Asia/Kathmandu'")
    assert rolled.execute("SELECT sluice_expire('rollups_daily', 10)").fetchone() == (2,)
    assert rolled.execute("SELECT min(day) FROM rollups_daily").fetchone() == (
        (today - timedelta(days=5)).date(),
    )


def test_retention_removes_whole_days_and_nothing_without_its_rollups(rolled: Database, empty: str) -> None:
    """Rows go after their rollups are made; the rollups stay until their own time is over."""
    store(rolled, some(random.Random(3), 200, DAY, 400))
    assert migrate(empty, RETENTION_DAYS_OF='{"crates": 3}') == 1, "of no domain"
    periods = {"RETENTION_DAYS": "30", "RETENTION_DAYS_OF": '{"telemetry": 10}', "ROLLUP_HOURLY_DAYS": "15"}
    assert migrate(empty, **periods) == 0
    make.switch(default(), on=True)
    oldest = rolled.execute("SELECT sluice_expire('raw_telemetry', 10)").fetchone()
    assert oldest == (None,), "not rolled up yet"
    make.run(60)
    check(rolled)
    daily = rolled.execute("SELECT * FROM rollups_daily ORDER BY 1, 2, 3, 4").fetchall()
    expire()
    kept = "SELECT count(*), min(time) >= %s FROM raw_telemetry"
    left = rolled.execute(kept, [DAY + timedelta(days=10)]).fetchone()
    assert left is not None
    assert left[1]
    assert 0 < left[0] < 200
    assert rolled.execute("SELECT * FROM rollups_daily ORDER BY 1, 2, 3, 4").fetchall() == daily
    store(rolled, [row(9000, DAY + timedelta(minutes=1), "a", 99.0, 1)])
    make.run(60, EVERYTHING)
    assert rolled.execute("SELECT FROM rollup_marks").rowcount == 0
    assert rolled.execute("SELECT * FROM rollups_daily ORDER BY 1, 2, 3, 4").fetchall() == daily, "too late"
    expire()
    assert rolled.execute(kept, [DAY + timedelta(days=10)]).fetchone() == left


def test_an_erased_device_leaves_no_row_and_no_rollup(
    rolled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small steps, whatever is rolled up meanwhile; rows and rollups of the others stay as they were."""
    chance = random.Random(11)
    store(rolled, some(chance, 400, DAY, 60))
    make.run(60)
    store(rolled, some(chance, 30, DAY, 60, first=1000))
    monkeypatch.setattr(erase_rows, "MOST_ROWS", 7)
    target = Target("u1", "a", "a", "telemetry")
    (rows,) = erase_tables.domain_rows(rolled, target)
    removed: list[int] = []
    before = erase_rows.count_rows(rolled, rows, target)
    assert erase_rows.count(rolled, erase_tables.MARKS, target) > 0
    erase_rows.remove_rows(rolled, rows, target, removed.append)
    assert (sum(removed), len(removed) > before / 10) == (before, True)
    erase_rows.remove_rows(rolled, erase_tables.HOURLY, target, removed.append, alone=True)
    erase_rows.remove_rollups(rolled, erase_tables.DAILY, target, removed.append)
    erase_rows.unname_marks(rolled, target, removed.append)
    of_device = "SELECT FROM rollups_daily WHERE user_id = 'u1' AND device_id = 'a'"
    assert erase_rows.count(rolled, erase_tables.MARKS, target) == 0
    assert rolled.execute(of_device).rowcount == 0
    make.run(60, EVERYTHING)
    assert check(rolled) > 0
    assert rolled.execute(of_device).rowcount == 0

    everything = Target("u0")
    erase_rows.remove_rows(rolled, rows, everything, removed.append)
    erase_rows.remove_rows(rolled, erase_tables.HOURLY, everything, removed.append, alone=True)
    erase_rows.remove_rollups(rolled, erase_tables.DAILY, everything, removed.append)
    assert erase_rows.count_rows(rolled, rows, everything) == 0
    assert check(rolled) > 0


def test_rollups_follow_imported_history(rolled: Database) -> None:
    """Rows of an export that come back late correct the rollups that were made without them."""
    store(rolled, some(random.Random(5), 200, DAY, 60))
    make.run(60)
    made = check(rolled)
    wanted = export.Wanted(default(), DAY, NOW)
    file = io.BytesIO()
    assert export.export(rolled, wanted, file, "csv", lambda *_: None) == 200
    rolled.execute("DELETE FROM raw_telemetry")
    rolled.execute("DELETE FROM rollups_hourly")
    rolled.execute("DELETE FROM rollups_daily")
    refused: list[object] = []
    for inserted in (200, 0):
        file.seek(0)
        outcome = import_rows.import_rows(rolled, default(), file, "csv", refused.append, lambda *_: None)
        assert outcome == (200, inserted, 200 - inserted, 0, 0)
        make.run(60, EVERYTHING)
        assert check(rolled) == made
    assert refused == []
