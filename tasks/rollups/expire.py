"""Removes what is older than its retention, a little at a time."""

import time
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
import structlog

from tasks.observe.metrics.worker import EXPIRED
from tasks.rollups import make
from tasks.servers import database

log = structlog.get_logger()

# The most rows of a plain table that one statement removes.
MOST_ROWS = 10_000

KEPT: LiteralString = "SELECT relation, days FROM retention WHERE days > 0 ORDER BY relation"
EXPIRE: LiteralString = "SELECT sluice_expire(%(relation)s, %(most)s)"


def run(seconds: float) -> None:
    """Removes rows and rollups that are too old, for about `seconds` at most; the next run continues.

    Rows whose rollups are not made yet get them first, or stay. A refusal by the database for one table does
    not hold up the others; it is raised as `psycopg.Error` at the end.
    """
    until = time.monotonic() + seconds
    with database.access() as connection:
        kept: list[Any] = connection.execute(KEPT).fetchall()
    if not kept:
        return
    today = int(datetime.now(UTC).timestamp()) // 86_400
    refused: psycopg.Error | None = None
    try:
        make.run(seconds, (today - min(days for _, days in kept)) * 24)
    except psycopg.Error as error:
        refused = error
    for relation, _ in kept:
        try:
            while time.monotonic() < until and _expire(relation):
                pass
        except psycopg.Error as error:
            refused = error
    if refused is not None:
        raise refused


def _expire(relation: str) -> bool:
    """Removes some of what is too old; returns whether there may be more."""
    with database.access() as connection:
        found: Any = connection.execute(EXPIRE, {"relation": relation, "most": MOST_ROWS}).fetchone()
    if found[0] is None:
        log.info("retention_waits", relation=relation)
    if not found[0]:
        return False
    EXPIRED.add(found[0], relation)
    return True
