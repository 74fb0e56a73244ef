"""Brings the activity of finished batches from Redis into the registry's tables."""

from typing import Any

import structlog

from tasks.devices import recount, tables
from tasks.devices.activity import merged
from tasks.observe.metrics.worker import DEVICES_COUNTED_AGAIN
from tasks.servers import database
from tasks.servers.redis_client import (
    DEVICES_ACTIVE,
    DEVICES_COUNTED,
    DEVICES_READY,
    client,
    server_run,
    text,
)
from tasks.servers.turns import Turn

log = structlog.get_logger()

SOURCE = "activity"
# Parts of batches that one transaction takes.
AT_ONCE = 500
NOTHING_READ = "0-0"
# The marker while the rows are counted.
COUNTING = "counting"
# No count begins sooner after another, unless Redis has lost its memory: the pipeline needs the database.
COUNT_AGAIN_SECONDS = 600


def flush(turn: Turn) -> None:
    """Adds the activity to the tables, each part's once, and drops it in Redis.

    When some was lost (Redis lost its memory, or there was too much), it counts the rows again first, though
    not sooner than `COUNT_AGAIN_SECONDS` after the last time; then a batch that ends meanwhile may count
    twice. Raises `redis.RedisError`, `psycopg.Error`, `TurnLost`.
    """
    marker = client().get(DEVICES_READY)
    with database.access() as connection:
        reached = tables.position(connection, SOURCE)
    if reached is None or (marker != server_run() and not client().exists(DEVICES_COUNTED)):
        reached = _newest()
        client().set(DEVICES_READY, COUNTING)
        for _ in recount.recount(turn):
            # Meanwhile the pipeline goes on, and what Redis keeps for it is bounded.
            reached = _add_all(reached, turn)
        with database.access() as connection:
            tables.set_position(connection, SOURCE, reached)
        # Without the marker there was too much again.
        client().set(DEVICES_READY, server_run(), xx=True)
        client().set(DEVICES_COUNTED, 1, ex=COUNT_AGAIN_SECONDS)
        DEVICES_COUNTED_AGAIN.add(1)
    _add_all(reached, turn)


def _add_all(reached: str, turn: Turn) -> str:
    while entries := _entries(reached):
        turn.keep()
        reached = entries[-1][0]
        with database.access() as connection, connection.transaction():
            for domain, found in merged(blob for _, blob in entries).items():
                tables.add_activity(connection, domain, found)
            tables.set_position(connection, SOURCE, reached)
    # A crash before this repeats nothing: the position says what was added.
    client().xtrim(DEVICES_ACTIVE, minid=reached, approximate=False)
    return reached


def _newest() -> str:
    newest: Any = client().xrevrange(DEVICES_ACTIVE, count=1)
    return text(newest[0][0]) if newest else NOTHING_READ


def _entries(after: str) -> list[tuple[str, bytes]]:
    found: Any = client().xrange(DEVICES_ACTIVE, min=f"({after}", count=AT_ONCE)
    return [(text(entry), fields[b"part"]) for entry, fields in found]
