"""The latest readings of a user's devices as they are stored, for warnings about rules."""

from typing import Any

import psycopg
import structlog
from psycopg import sql

from tasks.domain.domain import AnyDomain
from tasks.domain.stored import payload_of
from tasks.rules.warnings import shape
from tasks.servers import database
from tasks.servers.table_names import names

log = structlog.get_logger()

# Devices, and readings of each.
SAMPLED = (100, 3)
# With a form the readings of one device may differ: each may have another value alone.
SAMPLED_WITH_FORM = (25, 200)
# The work for a rule grows with them.
MOST_SHAPES = 300
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
    """Payloads of the last day, of some devices: one of each shape, which is what warnings see of them.

    None if the database does not answer in time.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, domain.columns))
    query = sql.SQL(LATEST).format(columns=columns, **names(domain))
    devices, each = SAMPLED if domain.form is None else SAMPLED_WITH_FORM
    try:
        with database.access() as connection:
            return _distinct(domain, connection, query, {"user": user_id, "devices": devices, "each": each})
    except psycopg.Error as error:
        log.info("readings_not_sampled", user_id=user_id, error=str(error).strip())
        return []


def _distinct(
    domain: AnyDomain, connection: database.Connection, query: sql.Composed, parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            # Row by row: together they may be large.
            for row in cursor.stream(query, parameters):
                payload = payload_of(domain, dict(zip(domain.columns, row, strict=True)))
                if len(found) < MOST_SHAPES:
                    found.setdefault(shape(payload), payload)
    except psycopg.errors.QueryCanceled:
        # Not a failure of the database, which its circuit breaker would count.
        log.info("readings_not_sampled", user_id=parameters["user"], error="the query took too long")
        return []
    return list(found.values())
