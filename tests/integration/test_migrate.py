"""Migrations on a real server: with TimescaleDB, without it, twice, at once, and when they must refuse."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from compose.local.stack import Stack
from ingest.admin.servers import migrate
from ingest.admin.servers.migrate import MigrationError
from tests.integration.migrations import Database, connected, run, sluice, superuser

ROW = (datetime(2026, 5, 1, 10, tzinfo=UTC), "alice", "d1", 17)

INSERT = (
    "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT DO NOTHING"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the project's migrations, to be changed at will."""
    return Path(shutil.copytree(migrate.SQL_DIR, tmp_path / "sql"))


def versions(conninfo: str) -> list[int]:
    """The migrations that the database remembers."""
    with connected(conninfo) as connection:
        return [record.version for record in migrate.applied(connection)]


def columns(conninfo: str) -> list[tuple[Any, ...]]:
    """Every column of every table of ours, in order."""
    with connected(conninfo) as connection:
        return connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default"
            " FROM information_schema.columns WHERE table_schema = 'public'"
            " ORDER BY table_name, ordinal_position"
        ).fetchall()


def test_a_new_database_becomes_a_hypertable_with_one_day_chunks(empty: str) -> None:
    """On TimescaleDB the readings are a hypertable whose key is the one that makes duplicates conflicts."""
    run(empty)
    with connected(empty) as connection:
        assert connection.execute(
            "SELECT column_name, time_interval FROM timescaledb_information.dimensions"
            " WHERE hypertable_name = 'raw_telemetry'"
        ).fetchall() == [("time", timedelta(days=1))]
        key = connection.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = 'raw_telemetry'::regclass AND contype = 'p'"
        ).fetchone()
        assert key == ('PRIMARY KEY ("time", user_id, device_id, sequence_id)',)
        assert [connection.execute(INSERT, ROW).rowcount for _ in range(2)] == [1, 0]


def test_a_second_run_changes_nothing(empty: str) -> None:
    """The command runs everything once, and afterwards finds nothing to do."""
    first = sluice(empty, "migrate")
    assert first.returncode == 0, first.stderr
    assert "applied 0001_timescaledb" in first.stderr
    before = columns(empty), versions(empty)
    again = sluice(empty, "migrate")
    assert again.returncode == 0, again.stderr
    assert "0 migrations applied" in again.stderr
    assert (columns(empty), versions(empty)) == before


def test_dry_run_and_status_touch_nothing(empty: str) -> None:
    """Both show what is pending, and the database stays as empty as it was."""
    dry = sluice(empty, "migrate", "--dry-run")
    assert "would run 0001_timescaledb" in dry.stdout
    shown = sluice(empty, "migrate", "--status")
    assert "pending" in shown.stdout
    assert (dry.returncode, shown.returncode) == (0, 0)
    assert columns(empty) == []


def test_an_edited_migration_is_refused_and_nothing_runs(empty: str, folder: Path) -> None:
    """After an applied file was edited, not even the new files run."""
    run(empty, folder)
    before = columns(empty)
    edited = folder / "0002_raw_telemetry.sql"
    edited.write_text(edited.read_text().replace("battery", "charge"))
    (folder / "0900_more.sql").write_text("CREATE TABLE more (x int)")
    with pytest.raises(MigrationError, match=r"0002_raw_telemetry\.sql was edited"):
        run(empty, folder)
    assert columns(empty) == before


def test_a_failing_migration_leaves_no_trace_of_itself(empty: str, folder: Path) -> None:
    """Files before the failing one stay applied, nothing of that one does, and once mended it runs."""
    bad = folder / "0901_bad.sql"
    (folder / "0900_good.sql").write_text("CREATE TABLE good (x int)")
    bad.write_text("CREATE TABLE half (x int); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match="0901_bad failed and was rolled back: division by zero"):
        run(empty, folder)
    tables = {row[0] for row in columns(empty)}
    assert "good" in tables
    assert "half" not in tables
    assert versions(empty)[-1] == 900
    bad.write_text("CREATE TABLE half (x int)")
    assert run(empty, folder)[0] == 1


def test_several_runs_at_once_share_the_work(empty: str) -> None:
    """Four runs that start together all succeed, and together they run each migration once."""
    with ThreadPoolExecutor(4) as pool:
        counts = [result[0] for result in pool.map(run, [empty] * 4)]
    assert sum(counts) == len(versions(empty)) == len([m for m in migrate.load() if not m.always])


def test_a_run_waits_for_another_one_but_not_for_ever(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that finds another one at work says so, and gives up after a time with nothing changed."""
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_SECONDS", 1)
    told: list[str] = []
    with connected(empty) as other, connected(empty) as connection:
        other.execute("SELECT pg_advisory_lock(%s)", [migrate.LOCK])
        with pytest.raises(MigrationError, match=r"has held the lock for 1 s"):
            migrate.migrate(connection, migrate.load(), told.append)
    assert any("waiting for it" in line for line in told)
    assert columns(empty) == []


def test_a_server_without_timescaledb_gets_plain_tables(stack: Stack, empty: str) -> None:
    """On plain PostgreSQL the tables have the same columns, and a duplicate is a conflict just the same."""
    with connected(superuser(stack, empty)) as server:
        database = sql.Identifier(server.info.dbname)
        server.execute(sql.SQL("ALTER DATABASE {} SET sluice.timescaledb = 'off'").format(database))
    run(empty)
    with connected(empty) as connection:
        assert not connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchall()
        assert [connection.execute(INSERT, ROW).rowcount for _ in range(2)] == [1, 0]
    ours = {"raw_telemetry", "user_configs", "active_alerts", "alert_history", "mqtt_users", "mqtt_acl"}
    plain = [column for column in columns(empty) if column[0] in ours]
    assert plain == [column for column in columns(stack.env["DATABASE_DIRECT_URL"]) if column[0] in ours]


def test_a_role_that_may_not_create_the_extension_is_told_what_to_do(stack: Stack, empty: str) -> None:
    """Where TimescaleDB is available but not permitted, nothing is made by halves on plain tables."""
    role, secret = f"guest_{uuid4().hex[:8]}", uuid4().hex
    with connected(superuser(stack, empty)) as server:
        server.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), secret))
        try:
            server.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(role)))
            done = sluice(make_conninfo(empty, user=role, password=secret), "migrate")
            assert done.returncode == 1
            assert f"TimescaleDB is available on this server, but the role {role} may not" in done.stderr
            assert "CREATE EXTENSION timescaledb" in done.stderr
            assert "Traceback" not in done.stderr
            assert versions(empty) == []
        finally:
            server.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_change_of_rules_notifies_with_the_user(database: Database, stack: Stack) -> None:
    """A plain UPDATE notifies every listener of the user whose rules changed, and moves `updated_at`."""
    user = f"user-{uuid4().hex[:8]}"
    with connected(stack.env["DATABASE_DIRECT_URL"]) as listener:
        listener.execute("LISTEN sluice_rules")
        rules = '[{"key": "heat", "operator": ">", "threshold": 8, "message": "warm"}]'
        database.execute("INSERT INTO user_configs (user_id, updated_at) VALUES (%s, '2020-01-01')", [user])
        database.execute("UPDATE user_configs SET rules = %s WHERE user_id = %s", [rules, user])
        moved = database.execute("SELECT updated_at FROM user_configs WHERE user_id = %s", [user]).fetchone()
        database.execute("DELETE FROM user_configs WHERE user_id = %s", [user])
        payloads = [n.payload for n in listener.notifies(timeout=5, stop_after=3)]
    assert payloads == [user] * 3
    assert moved is not None
    assert moved[0].year > 2020


def test_commands_without_a_usable_database_say_which_and_why(empty: str) -> None:
    """No schema, no server and no URL each end in a sentence, exit code 1, and no password or traceback."""
    nowhere = "postgresql://sluice:sesame-sesame@127.0.0.1:1/sluice"
    for url, expected in (
        (empty, "Run `sluice migrate` first"),
        (nowhere, "127.0.0.1:1/sluice"),
        ("sesame-sesame@nowhere", "DATABASE_URL: Value error, is not a URL"),
        ("postgresql://sluice:sesame%@127.0.0.1/sluice", "DATABASE_URL: Value error, is not a URL"),
    ):
        done = sluice(url, "provision", "list")
        assert done.returncode == 1
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
        assert "sesame" not in done.stderr
