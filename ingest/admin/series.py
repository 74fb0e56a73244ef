"""One field of a device over time, in buckets: for charts, by the HTTP API."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, LiteralString, NamedTuple

from psycopg import sql

from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from tasks.domain.domain import AnyDomain
from tasks.servers.table_names import names

Aggregate = Literal["avg", "min", "max", "sum", "count", "first", "last"]

MOST_BUCKETS = 2000
LONGEST = timedelta(days=3660)
MOST_LEVELS = 8
# Buckets begin on whole multiples of their length from this Monday on.
ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)
NUMERIC = frozenset({"bigint", "integer", "smallint", "double precision", "real", "numeric"})

_AGGREGATES: dict[Aggregate, LiteralString] = {
    "avg": "avg(value)",
    "min": "min(value)",
    "max": "max(value)",
    "sum": "sum(value)",
    "count": "count(value)::double precision",
    "first": "(array_agg(value ORDER BY time))[1]",
    "last": "(array_agg(value ORDER BY time DESC))[1]",
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


# Hours that have no rollups yet are not part of what `rollup_progress` says.
_MADE = """
SELECT 1 FROM rollup_progress WHERE domain = %(domain)s AND (complete OR made_from <= %(hour)s)
"""
_ROLLED_UP = """
SELECT date_bin(%(bucket)s, hour, %(origin)s) AS bucket, sum(sum) / sum(count), sum(count)::bigint
FROM rollups_hourly
WHERE user_id = %(user)s AND device_id = %(device)s AND key = %(key)s AND hour >= %(begin)s AND hour < %(end)s
GROUP BY bucket ORDER BY bucket
"""
HOUR = timedelta(hours=1)


class BadSeries(OperatorError):
    """What was asked for is not a series, or too much of one."""


class Wanted(NamedTuple):
    """One field from `begin` up to, and without, `end`, in buckets of one length."""

    key: str
    begin: datetime
    end: datetime
    bucket: timedelta
    aggregate: Aggregate


class Point(NamedTuple):
    """A bucket by its start, with how many values it has; one without any is left out."""

    time: datetime
    value: float | None
    values: int


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
    """The buckets that have values, in order. Raises `BadSeries`, `psycopg.Error`."""
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


def means(
    connection: Connection, domain: AnyDomain, user_id: str, device_id: str, wanted: Wanted
) -> list[Point]:
    """The same by the rollups, where there are some of all these hours. Raises as `read` does."""
    points = rolled_up(connection, domain, user_id, device_id, wanted)
    return read(connection, domain, user_id, device_id, wanted) if points is None else points


def rolled_up(
    connection: Connection, domain: AnyDomain, user_id: str, device_id: str, wanted: Wanted
) -> list[Point] | None:
    """Means of a column in buckets of whole hours by the rollups, from the hour of `begin` on.

    None where there are no rollups of all these hours, or where it is no such series. The rows of the last
    minute may be missing. Raises `psycopg.Error`.
    """
    hours = wanted.bucket % HOUR == timedelta()
    if not hours or wanted.aggregate != "avg" or domain.sql_types.get(wanted.key) not in NUMERIC:
        return None
    begin = wanted.begin.replace(minute=0, second=0, microsecond=0)
    values: dict[str, Any] = {
        "domain": domain.name,
        "hour": int(begin.timestamp()) // 3600,
        "user": user_id,
        "device": device_id,
        "key": wanted.key,
        "begin": begin,
        "end": wanted.end,
        "bucket": wanted.bucket,
        "origin": ORIGIN,
    }
    if connection.execute(_MADE, values).fetchone() is None:
        return None
    rows: list[Any] = connection.execute(_ROLLED_UP, values).fetchall()
    return [Point(time, float(value), count) for time, value, count in rows]


def _value(domain: AnyDomain, key: str) -> sql.Composed:
    if domain.sql_types.get(key) in NUMERIC:
        return sql.SQL(_COLUMN).format(column=sql.Identifier(key))
    path = key.split(".")
    if domain.extra is None or key in domain.columns or len(path) > MOST_LEVELS or not all(path):
        numeric = ", ".join(name for name in domain.columns if domain.sql_types.get(name) in NUMERIC)
        also = "" if domain.extra is None else ", or a dotted path to any other field of the payload"
        raise BadSeries(f"`key` must be one of {numeric}{also}; {key} is not.")
    return sql.SQL(_EXTRA).format(extra=sql.Identifier(domain.extra), path=sql.Placeholder("path"))
