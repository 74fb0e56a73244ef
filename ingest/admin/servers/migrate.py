"""Brings the database to the schema of `sql/` and of the domains: plain SQL, a transaction each.

`NNNN_name.sql` runs once and is never edited afterwards; `NNNN_name.always.sql` runs at every call, after
the others, and may be edited. The domains' declarations run at every call, between the two.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psycopg

from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from tasks import registry
from tasks.domain.declaration import quoted
from tasks.domain.domain import AnyDomain
from tasks.settings import settings
from tasks.text.times import in_utc

SQL_DIR = Path(__file__).resolve().parents[3] / "sql"
LOCK_TIMEOUT_SECONDS = 60
# Any number that nothing else in the database takes as an advisory lock: the letters "sluice" in ASCII.
LOCK = int.from_bytes(b"sluice", "big")
_NAME = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+?)(?P<always>\.always)?\.sql")

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS sluice_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(OperatorError):
    """The migrations cannot be run as they are; the database is as it was before the named migration."""


class Migration(NamedTuple):
    """One file of `sql/`, or, with the version 0, what a domain declares."""

    version: int
    name: str
    sql: str
    checksum: str
    always: bool

    @property
    def label(self) -> str:
        """Number and name, as in the file's name; for a domain only the name."""
        return f"{self.version:04d}_{self.name}" if self.version else self.name


class Applied(NamedTuple):
    """The database's record of a migration that has run."""

    version: int
    name: str
    checksum: str
    applied_at: datetime


def load(folder: Path = SQL_DIR) -> list[Migration]:
    """The migrations in the order in which they run. Raises `MigrationError` for a name out of order."""
    found = [_read(path) for path in sorted(folder.glob("*.sql"))]
    if not found:
        raise MigrationError(f"There are no migrations in {folder}.")
    versions = [migration.version for migration in found]
    for version in versions:
        if versions.count(version) > 1:
            raise MigrationError(f"Two files in sql/ have the number {version:04d}; renumber one of them.")
    return together(found, ())


def together(files: Iterable[Migration], of_domains: Iterable[Migration]) -> list[Migration]:
    """The files and the domains' migrations, in the order in which they run."""
    return sorted([*files, *of_domains], key=lambda migration: (migration.always, migration.version))


def _read(path: Path) -> Migration:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise MigrationError(
            f"{path.name} is not the name of a migration; expected NNNN_name.sql, as in 0001_tables.sql."
        )
    sql = path.read_text(encoding="utf-8")
    return Migration(int(match["version"]), match["name"], sql, checksum(sql), bool(match["always"]))


def checksum(sql: str) -> str:
    """The same for the same text, however a checkout ends its lines."""
    return hashlib.sha256(sql.replace("\r\n", "\n").rstrip().encode()).hexdigest()


def pending(migrations: Iterable[Migration], applied: Iterable[Applied]) -> list[Migration]:
    """The migrations that have not run yet, in order.

    Raises `MigrationError` when what was applied is not what is in the files: edited, missing, or a new
    file numbered below one that has run.
    """
    files = {migration.version: migration for migration in migrations if not migration.always}
    done = {record.version: record for record in applied}
    for record in done.values():
        file = files.get(record.version)
        if file is None:
            raise MigrationError(
                f"The database has the migration {record.version:04d}_{record.name}, which is not in sql/:"
                " it belongs to a newer version of Sluice. Use that version, or one that knows it."
            )
        if file.checksum != record.checksum:
            raise MigrationError(
                f"sql/{file.label}.sql was edited after it ran ({in_utc(record.applied_at)})."
                " Restore it, and put the change into a new migration with the next number."
            )
    newest = max(done, default=0)
    todo = [migration for version, migration in sorted(files.items()) if version not in done]
    for migration in todo:
        if migration.version < newest:
            raise MigrationError(
                f"sql/{migration.label}.sql is numbered below {newest:04d}, which has already run."
                " Give it the next free number."
            )
    return todo + [migration for migration in migrations if migration.always]


def status(migrations: Iterable[Migration], applied: Iterable[Applied]) -> list[str]:
    """One line for each migration, and one for the error that `pending` would raise."""
    migrations, done = list(migrations), {record.version: record for record in applied}
    lines = []
    for migration in migrations:
        record = done.get(migration.version)
        if migration.always:
            state = "runs at every migrate"
        else:
            state = f"applied {in_utc(record.applied_at)}" if record else "pending"
        lines.append(f"{migration.label:<32} {state}")
    try:
        pending(migrations, done.values())
    except MigrationError as error:
        lines.append(str(error))
    return lines


def applied(connection: Connection) -> list[Applied]:
    """The migrations that have run, by version; empty for a database that was never migrated."""
    exists = connection.execute("SELECT to_regclass('sluice_migrations') IS NOT NULL").fetchone()
    if exists is None or not exists[0]:
        return []
    with connection.cursor(row_factory=psycopg.rows.class_row(Applied)) as cursor:
        return cursor.execute(
            "SELECT version, name, checksum, applied_at FROM sluice_migrations ORDER BY version"
        ).fetchall()


def migrate(connection: Connection, migrations: list[Migration], report: Callable[[str], None]) -> int:
    """Runs what is pending and returns how many numbered migrations that were.

    `report` gets a line for each step. Safe to run twice and by several at once: each waits for the
    other, up to `LOCK_TIMEOUT_SECONDS`. Raises `MigrationError`; what ran before the failing one stays.
    Works through PgBouncer in any mode.
    """
    connection.add_notice_handler(lambda notice: _report_notice(notice, report))
    report_waiting = functools.cache(lambda: report("another `sluice migrate` is running; waiting for it"))
    ran: set[str] = set()
    while True:
        with connection.transaction():
            _prepare(connection, report_waiting)
            todo = [one for one in pending(migrations, applied(connection)) if one.label not in ran]
            if not todo:
                return len([one for one in migrations if one.label in ran and not one.always])
            _run(connection, todo[0], report)
            ran.add(todo[0].label)


def _prepare(connection: Connection, report_waiting: Callable[[], None]) -> None:
    # Held until the transaction ends, so it also holds through PgBouncer and needs no clearing up.
    connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
    free = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK]).fetchone()
    if free is None or not free[0]:
        report_waiting()
        try:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        except psycopg.errors.LockNotAvailable as error:
            raise MigrationError(
                f"Another `sluice migrate` has held the lock for {LOCK_TIMEOUT_SECONDS} s. Try again, or find"
                " it in pg_stat_activity by its application_name, 'sluice/' and the caller's name."
            ) from error
    connection.execute("SET LOCAL client_min_messages = warning")
    # building an index may take longer than the role's queries may
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute(_CREATE_TABLE)
    names = ("compress_after_days", "rollup_hourly_days", "rollup_daily_days")
    values = {name: str(getattr(settings(), name)) for name in names}
    domains = [domain.name for domain in registry.domains()]
    if unknown := sorted(settings().retention_days_of.keys() - set(domains)):
        raise MigrationError(
            f"RETENTION_DAYS_OF names {unknown[0]}, which is not a domain;"
            f" the domains are {', '.join(domains)}."
        )
    values["hypertables"] = json.dumps([_kept(domain) for domain in registry.domains()])
    for name, value in values.items():
        connection.execute("SELECT set_config(%s, %s, true)", [f"sluice.{name}", value])


def _kept(domain: AnyDomain) -> dict[str, str | int | None]:
    """How the domain's table is compressed, and how long its rows are kept.

    One segment per source, in the order of its rows: what queries ask for, and what lets the check for a
    duplicate open only the segments of its source.
    """
    segment = [name for name in (domain.owner, domain.source) if name]
    others = [name for name in domain.primary_key if name not in {*segment, domain.time}]
    order = [f'"{domain.time}" DESC', *(f'"{name}"' for name in others)]
    return {
        "relation": domain.table,
        "segment_by": quoted(tuple(segment)),
        "order_by": ", ".join(order),
        "time_column": domain.time,
        "domain": domain.name,
        "owner_column": domain.owner or None,
        "owner": domain.user_id,
        "source_column": domain.source,
        "prefix": domain.prefix,
        "days": settings().retention_days_in(domain.name),
    }


def _run(connection: Connection, migration: Migration, report: Callable[[str], None]) -> None:
    try:
        connection.execute(migration.sql.encode())
        if not migration.always:
            connection.execute(
                "INSERT INTO sluice_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                [migration.version, migration.name, migration.checksum],
            )
    except psycopg.Error as error:
        hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
        raise MigrationError(
            f"{migration.label} failed and was rolled back: {error.diag.message_primary or error}.{hint}"
        ) from error
    report(f"{'checked' if migration.always else 'applied'} {migration.label}")


def _report_notice(notice: psycopg.errors.Diagnostic, report: Callable[[str], None]) -> None:
    report(f"{(notice.severity or 'notice').lower()}: {notice.message_primary}")
