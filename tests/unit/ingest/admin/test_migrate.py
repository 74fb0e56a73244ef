"""Migrations: which files run, in which order, and what is refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.servers import migrate
from ingest.admin.servers.migrate import Applied, Migration, MigrationError

WHEN = datetime(2026, 5, 1, 10, 0, tzinfo=UTC)


def one(version: int, sql: str = "SELECT 1", *, always: bool = False) -> Migration:
    """A migration with the name `tables`."""
    return Migration(version, "tables", sql, migrate.checksum(sql), always)


def done(migration: Migration) -> Applied:
    """The database's memory of it."""
    return Applied(migration.version, migration.name, migration.checksum, WHEN)


def folder(at: Path, *names: str) -> Path:
    """A folder with these files."""
    for name in names:
        (at / name).write_text("SELECT 1;\n")
    return at


def test_files_run_by_number_and_the_repeated_ones_last(tmp_path: Path) -> None:
    """The number orders the files, whatever their names; those that always run come after all others."""
    path = folder(tmp_path, "0010_a.sql", "0002_z.sql", "0001_policies.always.sql", "0003_m.sql")
    assert [m.label for m in migrate.load(path)] == ["0002_z", "0003_m", "0010_a", "0001_policies"]


@pytest.mark.parametrize(
    "names",
    [("1_short.sql",), ("0001-dash.sql",), ("0001_Upper.sql",), ("0001_a.sql", "0001_b.sql"), ()],
)
def test_files_that_cannot_be_ordered_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A name without its number, a number that is there twice, or no file at all is refused."""
    with pytest.raises(MigrationError):
        migrate.load(folder(tmp_path, *names))


def test_the_projects_own_migrations_load() -> None:
    """The files of sql/ are in order."""
    assert migrate.load()[0].label == "0001_timescaledb"


@given(st.text())
def test_a_checksum_does_not_depend_on_line_ends(sql: str) -> None:
    """A checkout that ends lines with CR LF has the same checksums."""
    unix = sql.replace("\r\n", "\n")
    assert migrate.checksum(unix.replace("\n", "\r\n")) == migrate.checksum(unix)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_checksum_tells_different_statements_apart(before: str, after: str) -> None:
    """Two files that differ in more than the white space at their ends differ in their checksums."""
    same = before.replace("\r\n", "\n").rstrip() == after.replace("\r\n", "\n").rstrip()
    assert (migrate.checksum(before) == migrate.checksum(after)) == same


@given(st.sets(st.integers(1, 9999), min_size=1, max_size=20), st.data())
def test_what_ran_is_never_run_again(versions: set[int], data: st.DataObject) -> None:
    """After any first part of the files has run, exactly the others are pending, in order."""
    files = [one(version) for version in sorted(versions)]
    ran = data.draw(st.integers(0, len(files)))
    assert migrate.pending(files, map(done, files[:ran])) == files[ran:]


def test_a_repeated_file_is_pending_every_time_and_may_be_edited() -> None:
    """A file that always runs is remembered nowhere, so that it may change with the settings."""
    first, policies = one(1), one(2, always=True)
    assert migrate.pending([first, policies], [done(first)]) == [policies]


def test_an_edited_file_is_refused_by_name() -> None:
    """A file that was edited after it ran is refused, with what to do instead."""
    with pytest.raises(MigrationError, match=r"0001_tables\.sql was edited after it ran .*new migration"):
        migrate.pending([one(1, "SELECT 2")], [done(one(1))])


def test_a_database_of_a_newer_version_is_refused() -> None:
    """A migration that the database has and sql/ has not means that a newer version ran here."""
    with pytest.raises(MigrationError, match=r"0002_tables.*newer version"):
        migrate.pending([one(1)], [done(one(1)), done(one(2))])


def test_a_number_below_what_ran_is_refused() -> None:
    """A new file numbered below one that has run would run in another order elsewhere."""
    with pytest.raises(MigrationError, match="next free number"):
        migrate.pending([one(1), one(2)], [done(one(2))])


def test_status_shows_each_file_and_the_trouble() -> None:
    """The status has a line for each file, and names trouble instead of raising it."""
    lines = migrate.status([one(1, "SELECT 2"), one(2), one(3, always=True)], [done(one(1))])
    assert "applied 2026-05-01 10:00:00 UTC" in lines[0]
    assert "pending" in lines[1]
    assert "runs at every migrate" in lines[2]
    assert "was edited" in lines[3]
