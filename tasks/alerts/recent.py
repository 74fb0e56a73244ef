"""The latest readings of a user's devices as they are stored, for warnings about rules."""

from decimal import Decimal
from typing import Any

import psycopg
import structlog
from psycopg import sql

from tasks.domain.domain import AnyDomain
from tasks.servers import database

log = structlog.get_logger()

MOST = 300
# A user of whom little is stored could cost a scan of the table.
STATEMENT_SECONDS = 2


def payloads(domain: AnyDomain, user_id: str) -> list[dict[str, Any]]:
    """The payloads of the last day, `MOST` at most; none if the database does not answer in time."""
    query = sql.SQL(
        "SELECT {columns} FROM {table} WHERE {owner} = %s AND {time} > now() - interval '1 day'"
        " ORDER BY {time} DESC LIMIT %s"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, domain.columns)),
        table=sql.Identifier(domain.table),
        owner=sql.Identifier(domain.owner) if domain.owner else sql.Literal(domain.user_id),
        time=sql.Identifier(domain.time),
    )
    try:
        with database.access() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            rows = cursor.execute(query, [user_id, MOST]).fetchall()
    except psycopg.Error as error:
        log.info("readings_not_sampled", user_id=user_id, error=str(error).strip())
        return []
    return [_payload(domain, dict(zip(domain.columns, row, strict=True))) for row in rows]


def _payload(domain: AnyDomain, fields: dict[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = fields.pop(domain.extra) if domain.extra else {}
    known = {name: value for name, value in fields.items() if value is not None}
    return {name: float(one) if isinstance(one, Decimal) else one for name, one in known.items()} | extra
