"""The migration that makes `battery` an integer: nothing of a row is lost, and no worker loses a message."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from compose.local.stack import Stack
from ingest.admin.domains import domain_table
from ingest.admin.servers import migrate
from ingest.admin.servers.migrate import MigrationError
from tasks.batch.messages import Row
from tasks.domain.payload import Limits
from tasks.rows.write import write
from tasks.servers import database as database_errors
from tasks.telemetry import DOMAIN
from tests.integration.migrations import run, sluice, superuser

Database = psycopg.Connection[tuple[Any, ...]]
VERSION = 19
START = datetime(2026, 5, 1, 10, tzinfo=UTC)
COLUMN = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
WHERE attrelid = 'raw_telemetry'::regclass AND attname IN ('battery', 'extra_data') ORDER BY 1
"""
# A row's values before, and afterwards: battery and extra_data.
ROWS: list[tuple[tuple[float | None, str | None], tuple[int | None, Any]]] = [
    ((None, "{}"), (None, {})),
    ((85, "{}"), (85, {})),
    ((-0.0, '{"a": 1}'), (0, {"a": 1})),
    ((2147483647, "{}"), (2147483647, {})),
    ((-2147483648, '{"battery": 3}'), (-2147483648, {"battery": 3})),
    ((85.5, "{}"), (None, {"battery": 85.5})),
    ((85.5, '{"a": 1}'), (None, {"a": 1, "battery": 85.5})),
    ((0.1, '{"battery": "low"}'), (None, {"battery": 0.1, "battery_before": "low"})),
    ((0.5, "[1]"), (None, {"battery": 0.5, "extra_data_before": [1]})),
    ((1e12, "{}"), (None, {"battery": 1e12})),
    ((2147483648, "{}"), (None, {"battery": 2147483648})),
    ((float("nan"), "{}"), (None, {"battery": "NaN"})),
    ((float("-inf"), "{}"), (None, {"battery": "-Infinity"})),
]
MOVED = sum(after[0] is None and before[0] is not None for before, after in ROWS)


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The migrations of the version before."""
    folder = Path(shutil.copytree(migrate.SQL_DIR, tmp_path / "sql"))
    # Those that run every time speak of tables of this version.
    later = {"0006_policies.always.sql", "0099_rights.always.sql"}
    for path in folder.glob("00*.sql"):
        if path.name in later or (".always" not in path.name and int(path.name[:4]) >= VERSION):
            path.unlink()
    return folder


@contextmanager
def opened(conninfo: str, application_name: str = "test") -> Iterator[Database]:
    """A connection that commits each statement."""
    named = make_conninfo(conninfo, application_name=application_name)
    with psycopg.connect(named, autocommit=True, options="-c timezone=UTC") as connection:
        yield connection


def fill(connection: Database) -> None:
    """The rows of before, two in a day."""
    for number, ((battery, extra), _) in enumerate(ROWS):
        connection.execute(
            "INSERT INTO raw_telemetry VALUES (%s, 'ann', 'd', %s, 20.5, %s, %s)",
            [START + timedelta(hours=12 * number), number, battery, extra],
        )


def stored(connection: Database) -> list[tuple[Any, ...]]:
    """Battery and extras of all rows, in order."""
    return connection.execute("SELECT battery, extra_data FROM raw_telemetry ORDER BY sequence_id").fetchall()


def without_timescaledb(stack: Stack, conninfo: str) -> None:
    """The database never gets the extension."""
    with opened(superuser(stack, conninfo)) as server:
        server.execute(
            sql.SQL("ALTER DATABASE {} SET sluice.timescaledb = 'off'").format(
                sql.Identifier(server.info.dbname)
            )
        )


@pytest.mark.parametrize("plain", [False, True], ids=["hypertable", "plain table"])
def test_fractions_move_to_the_extras(stack: Stack, empty: str, before: Path, *, plain: bool) -> None:
    """Each value is kept, in the column or in the extras; the count is first; a second run does nothing."""
    if plain:
        without_timescaledb(stack, empty)
    run(empty, before)
    with opened(empty) as connection:
        assert connection.execute(COLUMN).fetchall()[0] == ("battery", "double precision", False)
        fill(connection)
        done = sluice(empty, "migrate")
        assert done.returncode == 0, done.stderr
        lines = done.stderr.splitlines()
        count = f"{MOVED} of {len(ROWS)} rows have a battery"
        first = next(number for number, line in enumerate(lines) if count in line)
        assert "is rewritten in about 1 s" in lines[first + 1]
        assert lines.index("applied 0019_integer_battery") > first
        assert connection.execute(COLUMN).fetchall() == [
            ("battery", "integer", False),
            ("extra_data", "jsonb", False),
        ]
        assert stored(connection) == [after for _, after in ROWS]
        assert domain_table.differences(connection, DOMAIN) == []
        again = sluice(empty, "migrate")
        assert (again.returncode, "0 migrations applied" in again.stderr) == (0, True)
        assert "battery" not in again.stderr
        assert stored(connection) == [after for _, after in ROWS]


def test_an_empty_table_is_changed_in_silence(empty: str) -> None:
    """A new installation reads of no rows and no rewrite."""
    assert not [line for line in run(empty)[1] if line.startswith("notice")]


def test_a_view_on_the_column_is_refused_with_the_steps(empty: str, before: Path) -> None:
    """Nothing has changed afterwards, and without the view the same command passes."""
    run(empty, before)
    with opened(empty) as connection:
        fill(connection)
        connection.execute("CREATE VIEW charge AS SELECT device_id, battery FROM raw_telemetry")
        connection.execute("CREATE VIEW warmth AS SELECT device_id, temperature FROM raw_telemetry")
        with pytest.raises(MigrationError) as caught:
            run(empty)
        assert "views read raw_telemetry.battery, whose type changes: charge." in str(caught.value)
        assert "drop them, run `sluice migrate` again, and create them again" in str(caught.value)
        assert [battery for battery, _ in stored(connection)][5] == 85.5
        connection.execute("DROP VIEW charge")
        run(empty)
        assert stored(connection) == [after for _, after in ROWS]


def lines(user: str, numbers: range, battery: bytes = b"85") -> list[Row]:
    """Rows as this version writes them."""
    payload = b'{"sequence_id": %d, "time": "2026-03-02T10:00:00Z", "battery": %b}'
    topic = f"users/{user}/devices/d/telemetry"
    return [Row(0, n, DOMAIN.validate(topic, payload % (n, battery), 0, Limits()).copy_line) for n in numbers]


def test_workers_of_this_version_write_to_the_old_and_to_the_new_table(empty: str, before: Path) -> None:
    """Whichever is changed first: directly, and when some rows are there already."""
    run(empty, before)
    with opened(empty, "sluice-worker") as worker:
        for number in (0, 10):
            assert write(worker, DOMAIN, lines("ann", range(number, number + 5), b"85.0")) == (5, [])
            assert write(worker, DOMAIN, lines("ann", range(number, number + 10))) == (5, [])
            run(empty)
        assert stored(worker) == [(85, {})] * 20


def test_workers_of_an_earlier_version_wait_and_refuse_nothing(empty: str, before: Path) -> None:
    """Its rows fit the old table alone, and the new table is a reason to wait, not to refuse them."""
    line = b"2026-03-02T10:00:00Z\tann\td\t%d\t20.5\t85.0\t{}\n"
    run(empty, before)
    with opened(empty, "sluice-worker") as worker:

        def copy(number: int) -> None:
            with worker.transaction(), worker.cursor() as cursor, cursor.copy(DOMAIN.copy) as rows:
                rows.write(line % number)

        copy(1)
        run(empty)
        # Through a pooler, a worker of this version may have had the same session before.
        for _ in range(2):
            with pytest.raises(psycopg.Error, match="this worker is of an earlier version") as caught:
                copy(2)
            assert database_errors.lacks_column(caught.value)
            assert not database_errors.refuses_data(caught.value)
            assert write(worker, DOMAIN, lines("bob", range(1)))[1] == []
    # Anybody else may insert.
    with opened(empty) as connection:
        connection.execute("INSERT INTO raw_telemetry VALUES (now(), 'eve', 'd', 1, 20, 50, NULL)")
