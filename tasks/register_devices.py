"""Keeps the registry of devices up to date; beat sends it every few seconds."""

from datetime import UTC, datetime

import psycopg
import redis
import structlog

from tasks import registry
from tasks.app import app
from tasks.devices import flush, pace, presence, refusals, tables
from tasks.devices.rejected import Notices
from tasks.errors import NotNow
from tasks.servers import database, turns
from tasks.servers.topic_reader import TopicReader
from tasks.servers.turns import Turn
from tasks.settings import settings

log = structlog.get_logger()


@app.task(name="tasks.devices.register")
def register() -> None:
    """Adds what came since the last run to the tables. If a server is away, the next run tries again."""
    try:
        turns.run_if_free("devices", _register)
    except (NotNow, psycopg.Error, redis.RedisError) as error:
        log.warning("devices_wait", error=str(error).strip())


@app.task(name="tasks.devices.tidy")
def tidy() -> None:
    """Drops the counts of days that are not kept. Beat sends it every hour."""
    try:
        with database.access() as connection:
            connection.execute(tables.DROP_OLD_DAYS)
    except psycopg.Error as error:
        log.warning("devices_wait", error=str(error).strip())


def _register(turn: Turn) -> None:
    if not pace.rests():
        pace.rest(flush.flush(turn))
    presence.flush(turn)
    notices = Notices(datetime.now(UTC)) if settings().rejected_notices else None
    with TopicReader(refusals.AHEAD_KBYTES) as reader:
        for domain in registry.domains():
            turn.keep()
            refusals.count(reader, domain, notices)
            if notices is not None:
                # After the commit: a notice may be lost, and a letter is not read again for it.
                notices.publish()
