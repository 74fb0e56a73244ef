"""Brings the activity of finished batches from Redis into the registry's tables."""

import time
from typing import Any

from tasks.devices import recount, tables
from tasks.devices.activity import merged
from tasks.servers import database
from tasks.servers.redis_client import DEVICES_ACTIVE, DEVICES_READY, client, server_run, text
from tasks.servers.turns import Turn

SOURCE = "activity"
# Parts of batches that one transaction takes.
AT_ONCE = 500
NOTHING_READ = "0-0"
# The marker of a stream that was full: tasks/report.lua sets it.
WAS_FULL = b"full"
# No count begins sooner after another because the stream was full: the pipeline needs the database.
COUNT_AGAIN_SECONDS = 600
# The time of one run for days that are counted from the rows; the next run continues.
COUNT_SECONDS = 10


def flush(turn: Turn) -> int:
    """Adds the activity to the tables, each part's once, and drops it in Redis.

    Returns how many lines it wrote. When some was lost (Redis lost its memory, or there was too much), it
    counts rows again, some days in each run; then a batch that ends just while the current hour is counted
    may count twice. Raises `redis.RedisError`, `psycopg.Error`, `TurnLost`.
    """
    marker = client().get(DEVICES_READY)
    # Redis may restart at any time: what this run has not seen must not count as seen.
    run = server_run()
    before = _reached()
    reached, written = _add_all(before, turn)
    if _due(marker, run):
        # From now on nothing is missing again; what was in Redis before has been added, or is lost.
        _set_reached(reached, _newest())
        # An entry's id begins with its time.
        recount.begin(turn, int((before or NOTHING_READ).split("-")[0]))
        client().set(DEVICES_READY, run)
    until = time.monotonic() + COUNT_SECONDS
    while recount.step(turn):
        written += _add_all(_reached(), turn)[1]
        if time.monotonic() > until:
            break
    return written


def _due(marker: bytes | str | None, run: bytes) -> bool:
    if marker == WAS_FULL:
        return not recount.moved_within(COUNT_AGAIN_SECONDS)
    return marker != run or recount.missing()


def _reached() -> str | None:
    with database.access() as connection:
        found: str | None = tables.position(connection, SOURCE)
    return found


def _set_reached(before: str | None, reached: str) -> None:
    with database.access() as connection:
        tables.set_position(connection, SOURCE, before, reached)


def _add_all(reached: str | None, turn: Turn) -> tuple[str | None, int]:
    """Up to where it has added now, and how many lines it wrote."""
    written = 0
    while entries := _entries(reached or NOTHING_READ):
        turn.keep()
        before, reached = reached, entries[-1][0]
        with database.access() as connection, connection.transaction():
            for domain, found in merged(blob for _, blob in entries).items():
                tables.add_activity(connection, domain, found)
                written += len(found)
            tables.set_position(connection, SOURCE, before, reached)
    if reached is not None:
        # A crash before this repeats nothing: the position says what was added.
        client().xtrim(DEVICES_ACTIVE, minid=reached, approximate=False)
    return reached, written


def _newest() -> str:
    newest: Any = client().xrevrange(DEVICES_ACTIVE, count=1)
    return text(newest[0][0]) if newest else NOTHING_READ


def _entries(after: str) -> list[tuple[str, bytes]]:
    found: Any = client().xrange(DEVICES_ACTIVE, min=f"({after}", count=AT_ONCE)
    return [(text(entry), fields[b"part"]) for entry, fields in found]
