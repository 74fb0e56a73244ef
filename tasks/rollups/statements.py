"""The SQL that makes the rollups of one hour of a domain, and of the day that it is in."""

import re
from typing import Any, LiteralString

from psycopg import sql

from tasks.domain.domain import AnyDomain
from tasks.servers.table_names import names

_NUMERIC = re.compile(r"(smallint|integer|bigint|real|double precision|numeric|decimal)(\([\d, ]+\))?")

# Parts of an hour that are read by one statement each, so that none takes long.
SLICES = 12

TEMPORARY: LiteralString = """
CREATE TEMPORARY TABLE sluice_rolled (
    user_id text, device_id text, key text, count bigint, min float8, max float8, sum float8, last float8[]
) ON COMMIT DROP
"""
# A sum of values within the bounds stays a double, whatever a device sends. The last value is the greatest
# pair of time and value: a sort of all rows would take several times longer.
_SLICE: LiteralString = """
INSERT INTO sluice_rolled
SELECT {owner}, {prefix} || {source}, value_of.key, count(*), min(value), max(value), sum(value),
    max(ARRAY[date_part('epoch', {time} - to_timestamp(%(hour)s * 3600.0)), value])
FROM {table}, LATERAL (VALUES {columns}) AS value_of (key, value)
WHERE {time} >= to_timestamp(%(hour)s * 3600.0 + %(slice)s * 3600.0 / %(slices)s)
    AND {time} < to_timestamp(%(hour)s * 3600.0 + (%(slice)s + 1) * 3600.0 / %(slices)s)
    AND value IS NOT NULL AND {devices}
GROUP BY 1, 2, 3
"""
_COLUMN: LiteralString = "({key}, CASE WHEN {column} BETWEEN -1e290 AND 1e290 THEN {column}::float8 END)"
_NAMED: LiteralString = (
    "({owner}, {source}) IN (SELECT * FROM unnest(%(users)s::text[], %(devices)s::text[]))"
)
_CHANGED: LiteralString = """
DO UPDATE SET count = excluded.count, min = excluded.min, max = excluded.max, sum = excluded.sum,
    last = excluded.last, domain = excluded.domain
WHERE (known.count, known.min, known.max, known.sum, known.last)
    IS DISTINCT FROM (excluded.count, excluded.min, excluded.max, excluded.sum, excluded.last)
"""
HOURLY: LiteralString = f"""
INSERT INTO rollups_hourly AS known (user_id, device_id, key, hour, domain, count, min, max, sum, last)
SELECT user_id, device_id, key, to_timestamp(%(hour)s * 3600.0), %(domain)s,
    sum(count), min(min), max(max), sum(sum), (max(last))[2]
FROM sluice_rolled GROUP BY 1, 2, 3
ON CONFLICT (user_id, device_id, key, hour) {_CHANGED}
"""  # noqa: S608 - our own text
DAILY: LiteralString = f"""
INSERT INTO rollups_daily AS known (user_id, device_id, key, day, domain, count, min, max, sum, last)
SELECT user_id, device_id, key, (to_timestamp(%(day)s * 86400.0) AT TIME ZONE 'UTC')::date, %(domain)s,
    sum(count), min(min), max(max), sum(sum), (array_agg(last ORDER BY hour DESC))[1]
FROM (SELECT DISTINCT user_id, device_id, key FROM sluice_rolled) AS rolled
JOIN rollups_hourly USING (user_id, device_id, key)
WHERE hour >= to_timestamp(%(day)s * 86400.0) AND hour < to_timestamp((%(day)s + 1) * 86400.0)
GROUP BY 1, 2, 3
ON CONFLICT (user_id, device_id, key, day) {_CHANGED}
"""  # noqa: S608 - our own text
# A value may be gone, or a row, whose rollups are there: their hours join the others to make the day again.
_GONE: LiteralString = """
WITH gone AS (
    DELETE FROM rollups_hourly AS known
    WHERE domain = %(domain)s AND hour = to_timestamp(%(hour)s * 3600.0) AND {devices}
        AND NOT EXISTS (
            SELECT FROM sluice_rolled AS made
            WHERE (made.user_id, made.device_id, made.key) = (known.user_id, known.device_id, known.key)
        )
    RETURNING user_id, device_id, key
)
INSERT INTO sluice_rolled (user_id, device_id, key) SELECT * FROM gone
"""
_NAMED_ROLLUPS: LiteralString = """
(user_id, device_id) IN (
    SELECT named.user_id, {prefix} || named.source
    FROM unnest(%(users)s::text[], %(devices)s::text[]) AS named (user_id, source)
)
"""
GONE_DAYS: LiteralString = """
DELETE FROM rollups_daily AS known USING sluice_rolled AS gone
WHERE gone.count IS NULL
    AND (known.user_id, known.device_id, known.key) = (gone.user_id, gone.device_id, gone.key)
    AND day = (to_timestamp(%(day)s * 86400.0) AT TIME ZONE 'UTC')::date
    AND NOT EXISTS (
        SELECT FROM rollups_hourly AS hourly
        WHERE (hourly.user_id, hourly.device_id, hourly.key) = (gone.user_id, gone.device_id, gone.key)
            AND hour >= to_timestamp(%(day)s * 86400.0) AND hour < to_timestamp((%(day)s + 1) * 86400.0)
    )
"""
_NEWEST: LiteralString = """
SELECT floor(extract(epoch FROM max({time})) / 3600)::integer
FROM {table} WHERE {time} < coalesce(to_timestamp(%(before)s::integer * 3600.0), 'infinity')
"""


def numeric_columns(domain: AnyDomain) -> list[str]:
    """The columns that are rolled up: the declared ones with numbers, but for those of the key."""
    return [
        name
        for name, sql_type in domain.sql_types.items()
        if _NUMERIC.fullmatch(sql_type) and name not in domain.primary_key
    ]


def slice_of_hour(domain: AnyDomain, *, named: bool) -> sql.Composed:
    """Reads a slice of an hour: all devices' rows, or those of the devices that are `named`."""
    own: dict[str, Any] = names(domain)
    columns = [
        sql.SQL(_COLUMN).format(key=sql.Literal(name), column=sql.Identifier(name))
        for name in numeric_columns(domain)
    ]
    return sql.SQL(_SLICE).format(
        **own,
        prefix=sql.Literal(domain.prefix),
        columns=sql.SQL(", ").join(columns),
        devices=sql.SQL(_NAMED).format(**own) if named else sql.SQL("true"),
    )


def gone(domain: AnyDomain, *, named: bool) -> sql.Composed:
    """Removes the hour's rollups that were not made just now: of the domain, or of the devices `named`."""
    devices = sql.SQL(_NAMED_ROLLUPS).format(prefix=sql.Literal(domain.prefix)) if named else sql.SQL("true")
    return sql.SQL(_GONE).format(devices=devices)


def newest_before(domain: AnyDomain) -> sql.Composed:
    """Finds the newest hour with rows before the hour `before`, or at all."""
    return sql.SQL(_NEWEST).format(**names(domain))
