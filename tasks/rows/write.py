"""Writes rows to a hypertable, each once; returns those that it cannot take, with the reason."""

from operator import attrgetter
from typing import Any, NamedTuple

import psycopg

from tasks.batch.messages import Row
from tasks.domain.domain import AnyDomain
from tasks.rows import conflicts, marks
from tasks.rows.marks import Mark
from tasks.servers import database
from tasks.settings import settings

# Each day is a chunk of the hypertable, and a transaction holds locks on every chunk that it touches: a
# device with a wild clock must not exhaust the server's table of locks.
MOST_DAYS = 100

# In whichever parts the rows came: if several in a partition share a key, the first counts.
_KAFKA_ORDER = attrgetter("partition", "offset")

# Of the time at the beginning of a line: its day, and its hour.
DAY_BYTES, HOUR_BYTES = 10, 13

# The least time of a statement after many halvings, and the time of a lone row.
LEAST_SECONDS = 2.0
PROBE_SECONDS = 5.0

# The form of the rows that this version writes. It changes with the type of a column: a trigger of that
# migration holds back workers of an earlier form until they are replaced.
ROW_FORM = 2

# How often a lone row is tried again while the table takes others.
LONE_ATTEMPTS = 2


class Unstored(NamedTuple):
    """A row that cannot be stored, and why; for a conflict with the row that is `stored` in its place."""

    row: Row
    reason: str
    error_type: str = "DatabaseRefused"
    stored: dict[str, Any] | None = None


def write(
    connection: database.Connection, domain: AnyDomain, rows: list[Row], seconds: float | None = None
) -> tuple[int, list[Unstored]]:
    """Writes the rows into the domain's table.

    Returns how many were new, and the rows that cannot be stored: the database refuses them, or has another
    row of the same key (`Conflict`). A row that is stored already, or comes twice, is not a conflict.

    It first tries COPY straight into the table, which fails at a duplicate; then COPY into a temporary table
    and INSERT, which skips duplicates; then, if data is refused or takes longer than the settings or
    `seconds` say, it halves the rows, down to one. Rows of very many days go in several transactions. Raises
    a `psycopg.Error` that is not about the data.
    """
    if not rows:
        return 0, []
    seconds = seconds or settings().database_statement_timeout_seconds
    # The time is the first column, and starts with its date and hour (UTC).
    hours = {row.line[:HOUR_BYTES] for row in rows}
    days = sorted({hour[:DAY_BYTES] for hour in hours})
    if len(days) > MOST_DAYS:
        middle_day = days[len(days) // 2]
        early = [row for row in rows if _day(row) < middle_day]
        return _write_both(
            connection, domain, early, [row for row in rows if _day(row) >= middle_day], seconds
        )
    lines = b"".join([row.line for row in rows])
    try:
        try:
            return _copy(connection, domain, lines, marks.made(domain, rows, hours), seconds), []
        except psycopg.errors.UniqueViolation:
            return _copy_staged(connection, domain, sorted(rows, key=_KAFKA_ORDER), seconds)
    except psycopg.Error as error:
        may_pass = database.may_be_repeatable(error) and not database.waits_for_lock(error)
        if not (database.refuses_data(error) or may_pass):
            raise
        if len(rows) == 1:
            return _write_lone(connection, domain, rows[0]) if may_pass else (0, [_refused(rows[0], error)])
    rows = sorted(rows, key=_KAFKA_ORDER)
    middle = len(rows) // 2
    if may_pass:
        # Half as much should take half as long, and others wait meanwhile.
        seconds = max(LEAST_SECONDS, seconds / 2)
    return _write_both(connection, domain, rows[:middle], rows[middle:], seconds)


def _write_lone(connection: database.Connection, domain: AnyDomain, row: Row) -> tuple[int, list[Unstored]]:
    """Retries a row that has failed alone; refuses it if it fails each time while others pass.

    Raises `psycopg.Error` when the table takes nothing.
    """
    refused: list[Unstored] = []
    for _ in range(LONE_ATTEMPTS):
        with connection.transaction(), connection.cursor() as cursor:
            _limit_statements(cursor, PROBE_SECONDS)
            # Whether the table takes anything at the moment: a row that it has, which changes nothing.
            cursor.execute(
                f'INSERT INTO "{domain.table}" SELECT * FROM "{domain.table}" LIMIT 1'  # noqa: S608 - our own
                " ON CONFLICT DO NOTHING"
            )
        try:
            return _copy_staged(connection, domain, [row], PROBE_SECONDS)
        except psycopg.Error as error:
            if not database.may_be_repeatable(error) or database.waits_for_lock(error):
                raise
            refused = [_refused(row, error)]
    return 0, refused


def _refused(row: Row, error: psycopg.Error) -> Unstored:
    return Unstored(row, f"{error.diag.message_primary or error} (SQLSTATE {error.sqlstate})")


def _write_both(
    connection: database.Connection, domain: AnyDomain, first: list[Row], second: list[Row], seconds: float
) -> tuple[int, list[Unstored]]:
    inserted, refused = write(connection, domain, first, seconds)
    inserted_after, refused_after = write(connection, domain, second, seconds)
    return inserted + inserted_after, refused + refused_after


def _day(row: Row) -> bytes:
    return row.line[:DAY_BYTES]


def _copy(
    connection: database.Connection, domain: AnyDomain, lines: bytes, marked: list[Mark], seconds: float
) -> int:
    with connection.transaction(), connection.cursor() as cursor:
        _limit_statements(cursor, seconds)
        with cursor.copy(domain.copy) as copy:
            copy.write(lines)
        inserted = cursor.rowcount
        marks.write(cursor, domain, marked)
        return inserted


def _copy_staged(
    connection: database.Connection, domain: AnyDomain, rows: list[Row], seconds: float
) -> tuple[int, list[Unstored]]:
    with connection.transaction(), connection.cursor() as cursor:
        _limit_statements(cursor, seconds)
        lines = [row.line for row in rows]
        conflicts.stage(cursor, domain, lines)
        cursor.execute(domain.insert_staged)
        inserted = cursor.rowcount
        if inserted:
            hours = {row.line[:HOUR_BYTES] for row in rows}
            marks.write(cursor, domain, marks.made(domain, rows, hours))
        found = conflicts.find(cursor, domain, lines) if inserted < len(rows) else []
    return inserted, [Unstored(rows[one.number], one.reason, "Conflict", one.stored) for one in found]


def _limit_statements(cursor: psycopg.Cursor[tuple[object, ...]], seconds: float) -> None:
    cursor.execute(
        f"SET LOCAL statement_timeout = '{seconds * 1000:.0f}ms';"
        # Distinguishes waiting for a lock from a slow statement.
        f"SET LOCAL lock_timeout = '{seconds * 500:.0f}ms';"
        f"SET LOCAL sluice.row_form = {ROW_FORM}"
    )
