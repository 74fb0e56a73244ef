"""Tells the users' channels of alerts: `deliver` on the queue `notify`, what keeps it going on `db`."""

import psycopg
import redis
import structlog

from tasks.app import app
from tasks.channels import pump, quiet, tables, wake
from tasks.observe.metrics import worker as metrics
from tasks.servers import database

log = structlog.get_logger()


@app.task(name="tasks.channels.deliver")
def deliver() -> None:
    """Sends what is due. If the database is away, a later run does it."""
    wake.is_not_queued()
    if pump.run(wake.wake):
        # There may be more, beyond the time of one run.
        wake.wake()


@app.task(name="tasks.channels.watch")
def watch() -> None:
    """Holds what a quiet window covers, looks for deliveries that are due, and has them sent.

    Beat sends it every few seconds.
    """
    try:
        with database.access() as connection:
            quiet.settle(connection)
            look = tables.look(connection)
        wake.note(look)
    except (psycopg.Error, redis.RedisError) as error:
        log.warning("channels_wait", error=str(error).strip())
        return
    if look.untaken is not None:
        wake.wake()


@app.task(name="tasks.channels.tidy")
def tidy() -> None:
    """Gives up what has waited for too long, and drops what is old. Beat sends it every few minutes."""
    try:
        with database.access() as connection:
            expired = tables.tidy(connection)
    except psycopg.Error as error:
        log.warning("channels_wait", error=str(error).strip())
        return
    if expired:
        log.warning("channels_given_up", deliveries=expired)
        metrics.CHANNEL_ATTEMPTS.add(expired, "expired")
