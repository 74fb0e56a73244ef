"""Conflicts: readings whose key the table has with other values, found among staged lines and described.

Two readings are identical when both would be stored as the same row. So the database compares them, after it
has converted both into its own types.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from tasks.domain.declaration import ORDINAL
from tasks.domain.domain import AnyDomain
from tasks.servers import database

# A stored row that is larger as JSON is described by its key alone: a batch of them must fit into memory.
MOST_ROW_BYTES = 8192

Cursor = psycopg.Cursor[tuple[object, ...]]


class Conflict(NamedTuple):
    """A staged line that differs from the stored row of its key."""

    number: int  # of the line, from 0
    reason: str
    stored: dict[str, Any]  # the row, or its key alone where it is very large


def stage(cursor: Cursor, domain: AnyDomain, lines: Iterable[bytes]) -> None:
    """Puts lines of COPY text into the domain's temporary table, until the transaction ends."""
    cursor.execute(domain.stage)
    with cursor.copy(domain.copy_staged) as copy:
        copy.write(b"".join(lines))


def find(cursor: Cursor, domain: AnyDomain, lines: Iterable[bytes]) -> list[Conflict]:
    """The staged lines whose key is stored with other values, in their order.

    Queries day by day, so that each statement touches one chunk at most.
    """
    if not _others(domain):
        return []
    for setting in ("TimeZone = 'UTC'", "enable_seqscan = off", "enable_bitmapscan = off"):
        cursor.execute(f"SET LOCAL {setting}")
    found: list[Conflict] = []
    # The time is the first column, in UTC, and starts with its date.
    for day in sorted({line[:10] for line in lines}):
        date = datetime.fromisoformat(day.decode()).date()
        bounds = {
            "begin": datetime.combine(date, time.min, UTC),
            "end": datetime.combine(date, time.max, UTC),
        }
        query = _query(domain, compressed=_is_compressed(cursor, domain, bounds))
        rows = cursor.execute(query, bounds).fetchall()
        found += [one for row in rows if (one := _conflict(domain, *row))]
    return sorted(found)


def is_stored(connection: database.Connection, domain: AnyDomain, line: bytes) -> bool:
    """Whether the row of a line of COPY text is in the table. Raises `psycopg.Error`."""
    try:
        with connection.transaction(), connection.cursor() as cursor:
            stage(cursor, domain, [line])
            present = cursor.execute(domain.staged_present).fetchone() is not None
            return present and not find(cursor, domain, [line])
    except psycopg.Error as error:
        if not database.refuses_data(error):
            raise
        return False


def _conflict(domain: AnyDomain, ordinal: Any, new_text: Any, stored_text: Any) -> Conflict | None:
    stored = _load(stored_text)
    reason = f"a reading with this {', '.join(domain.primary_key)} is stored with other values"
    if new_text is None:
        return Conflict(ordinal - 1, reason, stored)
    new = _load(new_text)
    if _of_before(domain, new, stored):
        return None
    differing = ", ".join(name for name in domain.columns if new[name] != stored[name])
    return Conflict(ordinal - 1, f"{reason}: {differing}", stored)


def _of_before(domain: AnyDomain, new: dict[str, Any], stored: dict[str, Any]) -> bool:
    """Whether the row is this reading, stored before a field was declared: the value is in the rest."""
    if domain.extra is None:
        return False
    rest = dict(stored[domain.extra] or {})
    moved = {
        column: rest.pop(member)
        for member, column in domain.members.items()
        if column in domain.nullable and stored[column] is None and member in rest
    }
    return bool(moved) and new == {**stored, **moved, domain.extra: rest}


def _is_compressed(cursor: Cursor, domain: AnyDomain, bounds: dict[str, datetime]) -> bool:
    if cursor.execute("SELECT to_regclass('timescaledb_information.chunks')").fetchone() == (None,):
        return False
    chunk = (
        "SELECT FROM timescaledb_information.chunks WHERE hypertable_name = %(table)s AND is_compressed"
        " AND range_start <= %(end)s AND range_end > %(begin)s LIMIT 1"
    )
    return cursor.execute(chunk, {**bounds, "table": domain.table}).fetchone() is not None


@lru_cache
def _query(domain: AnyDomain, *, compressed: bool) -> sql.Composed:
    """Compares stored bytes, because a type may lack an `=` of its own; jsonb alone by value."""
    # A search for equal columns may use another index, and read every row that a device with a stopped clock
    # has stored for its time. Only the key's own index has its order. A compressed chunk lacks that index.
    search = (
        "({own}) = ({key}) AND {within} OFFSET 0"
        if compressed
        else "({own}) >= ({key}) AND {within} ORDER BY {own} LIMIT 1"
    )
    plain = [name for name in _others(domain) if name != domain.extra]
    differs = [
        sql.SQL("record_image_ne(ROW({}), ROW({}))").format(
            _columns("staged", plain), _columns("stored", plain)
        )
    ] * bool(plain)
    if domain.extra is not None:
        pair = (sql.Identifier(table, domain.extra) for table in ("staged", "stored"))
        differs.append(sql.SQL("{} IS DISTINCT FROM {}").format(*pair))
    document = "CROSS JOIN LATERAL (SELECT to_jsonb(r)::text AS document FROM (SELECT {}) AS r OFFSET 0)"
    return sql.SQL(
        "SELECT staged.{ordinal},"
        " CASE WHEN greatest(octet_length(new.document), octet_length(old.document)) <= {most}"
        " THEN new.document END,"
        " CASE WHEN octet_length(old.document) <= {most} THEN old.document"
        " ELSE (SELECT to_jsonb(r)::text FROM (SELECT {stored_key}) AS r) END"
        " FROM {staged} AS staged"
        " CROSS JOIN LATERAL (SELECT * FROM {table} AS own WHERE {search}) AS stored"
        " {new_document} AS new {old_document} AS old"
        " WHERE staged.{time} BETWEEN %(begin)s AND %(end)s AND ({stored_key}) = ({key}) AND ({differs})"
    ).format(
        ordinal=sql.Identifier(ORDINAL),
        most=sql.Literal(MOST_ROW_BYTES),
        staged=sql.Identifier(domain.staged),
        table=sql.Identifier(domain.table),
        time=sql.Identifier(domain.time),
        key=_columns("staged", domain.primary_key),
        stored_key=_columns("stored", domain.primary_key),
        search=sql.SQL(search).format(
            own=_columns("own", domain.primary_key),
            key=_columns("staged", domain.primary_key),
            within=sql.SQL("{} BETWEEN %(begin)s AND %(end)s").format(sql.Identifier("own", domain.time)),
        ),
        new_document=sql.SQL(document).format(_columns("staged", domain.columns)),
        old_document=sql.SQL(document).format(_columns("stored", domain.columns)),
        differs=sql.SQL(" OR ").join(differs),
    )


def _others(domain: AnyDomain) -> list[str]:
    return [name for name in domain.columns if name not in domain.primary_key]


def _columns(table: str, names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(table, name) for name in names)


def _load(text: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(text, parse_int=_integer, parse_float=_float)
    return loaded


def _integer(digits: str) -> int | str:
    # A numeric column may hold more digits than Python converts to an integer.
    return int(digits) if len(digits) <= 308 else digits


def _float(digits: str) -> float | str:
    number = float(digits)
    return number if Decimal(repr(number)) == Decimal(digits) else digits
