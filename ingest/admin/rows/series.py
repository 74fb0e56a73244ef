"""One field of a device over time, in buckets: for charts, by the HTTP API."""

from datetime import timedelta
from typing import Any, LiteralString

from psycopg import sql

from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from ingest.admin.rows import series_rollups
from ingest.admin.rows.series_wanted import ORIGIN, Aggregate, Point, Wanted
from tasks.domain.domain import AnyDomain
from tasks.servers.table_names import names

MOST_BUCKETS = 2000
LONGEST = timedelta(days=3660)
MOST_LEVELS = 8
NUMERIC = frozenset({"bigint", "integer", "smallint", "double precision", "real", "numeric"})

_AGGREGATES: dict[Aggregate, LiteralString] = {
    "avg": "avg(value)",
    "min": "min(value)",
    "max": "max(value)",
    "sum": "sum(value)",
    "count": "count(value)::double precision",
    "first": "(array_agg(value ORDER BY time, value))[1]",
    "last": "(array_agg(value ORDER BY time DESC, value DESC))[1]",
}
_SERIES = """
SELECT date_bin(%(bucket)s, time, %(origin)s) AS bucket, {aggregate}, count(*)
FROM (
    SELECT {time} AS time, {value} AS value FROM {table}
    WHERE {owner} = %(user)s AND {source} = %(source)s AND {time} >= %(begin)s AND {time} < %(end)s
) AS readings
WHERE value IS NOT NULL AND value NOT IN ('NaN', 'Infinity', '-Infinity')
GROUP BY bucket ORDER BY bucket
"""
_COLUMN = "{column}::double precision"
# A number of the payload may be of any length, and double precision is not.
_EXTRA = (
    "CASE WHEN jsonb_typeof({extra} #> {path}) = 'number' THEN"
    " CASE WHEN abs(({extra} #>> {path})::numeric) < 1e308"
    " THEN ({extra} #>> {path})::double precision END END"
)


class BadSeries(OperatorError):
    """The request does not describe a series, or asks for too much of one."""


def check(wanted: Wanted) -> None:
    """Raises `BadSeries`, which says how to ask for less."""
    length = wanted.end - wanted.begin
    if length <= timedelta():
        raise BadSeries("The range is empty: `from` must be before `to`.")
    if length > LONGEST:
        raise BadSeries(f"The range has {length.days:,} days; at most {LONGEST.days:,} are allowed.")
    if wanted.bucket < timedelta(seconds=1):
        raise BadSeries("`bucket` must be at least 1s.")
    buckets = -(-length // wanted.bucket)
    if buckets > MOST_BUCKETS:
        raise BadSeries(
            f"The range has {buckets:,} buckets; at most {MOST_BUCKETS:,} are allowed."
            " Ask for a longer `bucket` or a shorter range."
        )


def read(
    connection: Connection, domain: AnyDomain, user_id: str, device_id: str, wanted: Wanted
) -> list[Point]:
    """The buckets that have values, in order: by rollups where they cover the range, else from the rows.

    Raises `BadSeries`, `psycopg.Error`.
    """
    check(wanted)
    points = series_rollups.read(connection, domain, user_id, device_id, wanted)
    return from_rows(connection, domain, user_id, device_id, wanted) if points is None else points


def from_rows(
    connection: Connection, domain: AnyDomain, user_id: str, device_id: str, wanted: Wanted
) -> list[Point]:
    """The same by the rows alone."""
    check(wanted)
    query = sql.SQL(_SERIES).format(
        aggregate=sql.SQL(_AGGREGATES[wanted.aggregate]), value=_value(domain, wanted.key), **names(domain)
    )
    values: dict[str, Any] = {
        "user": user_id,
        "source": domain.source_id(device_id),
        "begin": wanted.begin,
        "end": wanted.end,
        "bucket": wanted.bucket,
        "origin": ORIGIN,
        "path": wanted.key.split("."),
    }
    rows: list[Any] = connection.execute(query, values).fetchall()
    return [Point(time, None if value is None else float(value), count) for time, value, count in rows]


def _value(domain: AnyDomain, key: str) -> sql.Composed:
    if domain.sql_types.get(key) in NUMERIC:
        return sql.SQL(_COLUMN).format(column=sql.Identifier(key))
    path = key.split(".")
    if domain.extra is None or key in domain.columns or len(path) > MOST_LEVELS or not all(path):
        numeric = ", ".join(name for name in domain.columns if domain.sql_types.get(name) in NUMERIC)
        also = "" if domain.extra is None else ", or a dotted path to any other field of the payload"
        raise BadSeries(f"`key` must be one of {numeric}{also}; {key} is not.")
    return sql.SQL(_EXTRA).format(extra=sql.Identifier(domain.extra), path=sql.Placeholder("path"))
