"""The latest readings of a user's devices as they are stored, for warnings about rules."""

from typing import Any

import psycopg
import structlog
from psycopg import sql

from tasks.domain.domain import AnyDomain
from tasks.domain.stored import payload_of
from tasks.servers import database
from tasks.servers.table_names import names

log = structlog.get_logger()

# Devices, and readings of each.
SAMPLED = (100, 3)
# With a form the readings of one device may differ: each may have another value alone.
SAMPLED_WITH_FORM = (25, 200)
STATEMENT_SECONDS = 1
# From device to device along the index: a user with few readings must not cost a scan of the table.
LATEST = """
WITH RECURSIVE device (id) AS (
    (SELECT {source} FROM {table}
     WHERE {owner} = %(user)s AND {time} > now() - interval '1 day' ORDER BY {source} LIMIT 1)
    UNION ALL
    SELECT (SELECT {source} FROM {table}
            WHERE {owner} = %(user)s AND {source} > device.id AND {time} > now() - interval '1 day'
            ORDER BY {source} LIMIT 1)
    FROM device WHERE device.id IS NOT NULL
)
SELECT latest.*
FROM (SELECT id FROM device WHERE id IS NOT NULL LIMIT %(devices)s) AS sampled
CROSS JOIN LATERAL (
    SELECT {columns} FROM {table}
    WHERE {owner} = %(user)s AND {source} = sampled.id AND {time} > now() - interval '1 day'
    ORDER BY {time} DESC LIMIT %(each)s
) AS latest
"""


def payloads(domain: AnyDomain, user_id: str) -> list[dict[str, Any]]:
    """The latest payloads of the last day, of some devices; none if the database does not answer."""
    columns = sql.SQL(", ").join(map(sql.Identifier, domain.columns))
    query = sql.SQL(LATEST).format(columns=columns, **names(domain))
    try:
        with database.access() as connection:
            rows = _rows(connection, query, user_id, SAMPLED if domain.form is None else SAMPLED_WITH_FORM)
    except psycopg.Error as error:
        log.info("readings_not_sampled", user_id=user_id, error=str(error).strip())
        return []
    return [payload_of(domain, dict(zip(domain.columns, row, strict=True))) for row in rows]


def _rows(
    connection: database.Connection, query: sql.Composed, user_id: str, sampled: tuple[int, int]
) -> list[tuple[Any, ...]]:
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            parameters = {"user": user_id, "devices": sampled[0], "each": sampled[1]}
            return cursor.execute(query, parameters).fetchall()
    except psycopg.errors.QueryCanceled:
        # Not a failure of the database, which its circuit breaker would count.
        log.info("readings_not_sampled", user_id=user_id, error="the query took too long")
        return []
