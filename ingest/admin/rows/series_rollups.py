"""A series of a column by its rollups: whole hours or days from them, the rest of the range from the rows."""

from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, NamedTuple

from psycopg import sql

from ingest.admin.postgres import Connection
from ingest.admin.rows.series_wanted import ORIGIN, Aggregate, Point, Wanted
from tasks.domain.domain import AnyDomain
from tasks.rollups.statements import numeric_columns
from tasks.servers.table_names import names

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

# The first value of a bucket is not kept.
_AGGREGATES: dict[Aggregate, LiteralString] = {
    "avg": "sum(sum) / sum(count)",
    "min": "min(min)",
    "max": "max(max)",
    "sum": "sum(sum)",
    "count": "sum(count)::double precision",
    "last": "(array_agg(last ORDER BY at DESC, last DESC))[1]",
}


class _Rollups(NamedTuple):
    """Rollups of one length: their table, and their time as it has it and as a point in time."""

    step: timedelta
    table: str
    column: LiteralString
    at: LiteralString


_HOURLY = _Rollups(HOUR, "rollups_hourly", "hour", "hour")
_DAILY = _Rollups(DAY, "rollups_daily", "day", "day::timestamp AT TIME ZONE 'UTC'")

# Hours with marks are not covered by `rollup_progress`, and hours that are too old are gone.
_COVERED: LiteralString = """
SELECT 1 FROM rollup_progress WHERE domain = %(domain)s AND (complete OR made_from <= %(first_hour)s)
    AND NOT EXISTS (SELECT FROM retention WHERE relation = %(relation)s AND gone_before > %(first_hour)s)
"""
# One statement sees marks, rollups and rows as of one moment: a row is in its rollup, or there is its mark.
_SERIES: LiteralString = """
WITH pending AS MATERIALIZED (
    SELECT DISTINCT to_timestamp(floor(hour / %(hours)s::numeric) * %(hours)s * 3600) AS at
    FROM rollup_marks
    WHERE domain = %(domain)s AND hour >= %(first_hour)s AND hour < %(last_hour)s
), parts AS (
    SELECT {at} AS at, count, min, max, sum, last FROM {rollups}
    WHERE user_id = %(user)s AND device_id = %(device)s AND key = %(key)s
        AND {column} >= {first} AND {column} < {last}
        AND NOT EXISTS (SELECT FROM pending WHERE pending.at = {at})
    UNION ALL
    SELECT at, 1, value, value, value, value FROM (
        SELECT {time} AS at, {value}::double precision AS value FROM {table}
        WHERE {own} AND {time} >= %(begin)s AND {time} < %(first)s
        UNION ALL
        SELECT {time}, {value}::double precision FROM {table}
        WHERE {own} AND {time} >= %(last)s AND {time} < %(end)s
        UNION ALL
        SELECT read.at, read.value FROM pending CROSS JOIN LATERAL (
            SELECT {time} AS at, {value}::double precision AS value FROM {table}
            WHERE {own} AND {time} >= pending.at AND {time} < pending.at + %(step)s
        ) AS read
    ) AS readings
    WHERE value IS NOT NULL AND value NOT IN ('NaN', 'Infinity', '-Infinity')
)
SELECT date_bin(%(bucket)s, at, %(origin)s) AS bucket, {aggregate}, sum(count)::bigint
FROM parts GROUP BY bucket ORDER BY bucket
"""
_OWN = "{owner} = %(user)s AND {source} = %(source)s"


def read(
    connection: Connection, domain: AnyDomain, user_id: str, device_id: str, wanted: Wanted
) -> list[Point] | None:
    """The same buckets as from the rows; None where there are no rollups for them.

    There are none if buckets are not whole hours, for `first`, for a column without rollups, and where the
    rollups of the range are not made yet or are gone. Where only rollups are left, the buckets are more
    complete than those from the rows. Raises `psycopg.Error`.
    """
    aggregate = _AGGREGATES.get(wanted.aggregate)
    if aggregate is None or wanted.bucket % HOUR or wanted.key not in numeric_columns(domain):
        return None
    rollups = _HOURLY if wanted.bucket % DAY else _DAILY
    first, last = -(-(wanted.begin - ORIGIN) // rollups.step), (wanted.end - ORIGIN) // rollups.step
    if first >= last:
        return None
    begin, end = ORIGIN + first * rollups.step, ORIGIN + last * rollups.step
    values: dict[str, Any] = {
        "domain": domain.name,
        "relation": rollups.table,
        "user": user_id,
        "device": device_id,
        "source": domain.source_id(device_id),
        "key": wanted.key,
        "begin": wanted.begin,
        "first": begin,
        "last": end,
        "end": wanted.end,
        "first_hour": _hour(begin),
        "last_hour": _hour(end),
        "first_day": begin.astimezone(UTC).date(),
        "last_day": end.astimezone(UTC).date(),
        "hours": rollups.step // HOUR,
        "step": rollups.step,
        "bucket": wanted.bucket,
        "origin": ORIGIN,
    }
    if connection.execute(_COVERED, values).fetchone() is None:
        return None
    by_day = rollups is _DAILY
    query = sql.SQL(_SERIES).format(
        aggregate=sql.SQL(aggregate),
        at=sql.SQL(rollups.at),
        column=sql.SQL(rollups.column),
        rollups=sql.Identifier(rollups.table),
        first=sql.SQL("%(first_day)s" if by_day else "%(first)s"),
        last=sql.SQL("%(last_day)s" if by_day else "%(last)s"),
        own=sql.SQL(_OWN).format(**names(domain)),
        value=sql.Identifier(wanted.key),
        **names(domain),
    )
    rows: list[Any] = connection.execute(query, values).fetchall()
    return [Point(time, float(value), count) for time, value, count in rows]


def _hour(time: datetime) -> int:
    return int(time.timestamp()) // 3600
