"""Counting and removing rows by user or device, a limited number in each statement, on every edition."""

from collections.abc import Callable, Iterator
from typing import Any, LiteralString

from psycopg import sql

from ingest.admin.erasure.erase_tables import MARKS, Part, Rows, Target, condition, values
from ingest.admin.postgres import Connection
from tasks.rollups.make import LOCK

MOST_ROWS = 10_000

_COUNT: LiteralString = "SELECT count(*) FROM {table} WHERE {condition}"
_DELETE: LiteralString = """
DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {condition} LIMIT %(most)s))
"""
# A mark that names nobody stands for everybody.
_UNNAME: LiteralString = """
UPDATE rollup_marks SET users = NULL, devices = NULL
WHERE id = ANY (ARRAY(SELECT id FROM rollup_marks WHERE {condition} LIMIT %(most)s))
"""
_OF_SOURCE: LiteralString = "{owner} = %(user)s AND {source} = %(source)s"
# From source to source along the index, without reading the rows of each.
_NEXT_SOURCE: LiteralString = """
SELECT {source} FROM {table} WHERE {owner} = %(user)s AND {source} > %(after)s ORDER BY {source} LIMIT 1
"""
# A row of a hypertable has no lasting address, so the statement names a span of time that holds this many of
# them; times are passed as text, because Python's range is smaller.
_FIRST: LiteralString = """
SELECT min(at)::text, max(at)::text FROM (
    SELECT {time} AS at FROM {table} WHERE {owner} = %(user)s AND {source} = %(source)s
    ORDER BY {time} LIMIT %(most)s
) AS first
"""
_DELETE_SPAN: LiteralString = """
DELETE FROM {table} WHERE {owner} = %(user)s AND {source} = %(source)s
    AND {time} >= %(since)s::timestamptz AND {time} <= %(until)s::timestamptz
"""
# TimescaleDB's default limits how many compressed rows a statement may open.
_UNCOMPRESS: LiteralString = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name = 'timescaledb.max_tuples_decompressed_per_dml_transaction'
"""

Removed = Callable[[int], None]


def count(connection: Connection, part: Part, target: Target) -> int:
    """How many rows of the table are the target's. Raises `psycopg.Error`."""
    which = condition(part, target)
    if which is None:
        return 0
    query = sql.SQL(_COUNT).format(table=sql.Identifier(part.table), condition=which)
    return _number(connection.execute(query, values(target)).fetchone())


def count_rows(connection: Connection, rows: Rows, target: Target) -> int:
    """How many rows by device and time are the target's. Raises `psycopg.Error`."""
    which = sql.SQL("{owner} = %(user)s" if target.device_id is None else _OF_SOURCE)
    query = sql.SQL(_COUNT).format(
        table=sql.Identifier(rows.relation), condition=which.format(**_names(rows))
    )
    return _number(
        connection.execute(query, {"user": target.user_id, "source": _source(rows, target)}).fetchone()
    )


def remove(connection: Connection, part: Part, target: Target, removed: Removed) -> None:
    """Removes the target's rows, in transactions of `MOST_ROWS` at most. Raises `psycopg.Error`."""
    which = condition(part, target)
    if which is None:
        return
    query = sql.SQL(_DELETE).format(table=sql.Identifier(part.table), condition=which)
    _repeat(lambda: connection.execute(query, {**values(target), "most": MOST_ROWS}).rowcount, removed)


def remove_rows(
    connection: Connection, rows: Rows, target: Target, removed: Removed, *, alone: bool = False
) -> None:
    """Removes the rows by device and time likewise; `alone` while no worker makes rollups.

    Many rows of one time go together. Raises `psycopg.Error`.
    """
    for source in _sources(connection, rows, target):
        given = {"user": target.user_id, "source": source, "most": MOST_ROWS}
        _repeat(lambda given=given: _remove_span(connection, rows, given, alone=alone), removed)  # type: ignore[misc]


def remove_rollups(connection: Connection, part: Part, target: Target, removed: Removed) -> None:
    """Removes rollups like `remove`, while no worker makes them, which would write what it has read."""

    def step() -> int:
        with connection.transaction():
            _alone(connection)
            which = condition(part, target)
            assert which is not None
            query = sql.SQL(_DELETE).format(table=sql.Identifier(part.table), condition=which)
            return connection.execute(query, {**values(target), "most": MOST_ROWS}).rowcount

    _repeat(step, removed)


def unname_marks(connection: Connection, target: Target, removed: Removed) -> None:
    """Takes the names out of the marks of hours to roll up. Raises `psycopg.Error`."""
    which = condition(MARKS, target)
    assert which is not None
    query = sql.SQL(_UNNAME).format(condition=which)
    _repeat(lambda: connection.execute(query, {**values(target), "most": MOST_ROWS}).rowcount, removed)


def _remove_span(connection: Connection, rows: Rows, given: dict[str, Any], *, alone: bool) -> int:
    names = _names(rows)
    with connection.transaction():
        if alone:
            _alone(connection)
        found = connection.execute(sql.SQL(_FIRST).format(**names), given).fetchone()
        if found is None or found[0] is None:
            return 0
        connection.execute(_UNCOMPRESS)
        span = {**given, "since": found[0], "until": found[1]}
        return connection.execute(sql.SQL(_DELETE_SPAN).format(**names), span).rowcount


def _sources(connection: Connection, rows: Rows, target: Target) -> Iterator[str]:
    if target.device_id is not None:
        yield _source(rows, target)
        return
    query = sql.SQL(_NEXT_SOURCE).format(**_names(rows))
    after = ""
    while found := connection.execute(query, {"user": target.user_id, "after": after}).fetchone():
        after = str(found[0])
        yield after


def _source(rows: Rows, target: Target) -> str:
    return (target.device_id or "") if rows.qualified else target.source_id


def _repeat(step: Callable[[], int], removed: Removed) -> None:
    while done := step():
        removed(done)


def _alone(connection: Connection) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def _names(rows: Rows) -> dict[str, sql.Composable]:
    return {
        "table": sql.Identifier(rows.relation),
        "owner": sql.SQL(rows.owner),  # quoted by the server
        "source": sql.Identifier(rows.source),
        "time": sql.Identifier(rows.time),
    }


def _number(found: tuple[object, ...] | None) -> int:
    return int(str(found[0])) if found else 0
