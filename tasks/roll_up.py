"""Keeps the data affordable: rollups by hour and by day, and retention; beat sends both."""

import psycopg
import structlog

from tasks.app import app
from tasks.rollups import expire as removing
from tasks.rollups import make as making
from tasks.servers import database

log = structlog.get_logger()

# The part of a worker's time that each run takes.
MAKE_SECONDS, EXPIRE_SECONDS = 20.0, 60.0


@app.task(name="tasks.rollups.make")
def make() -> None:
    """Makes the rollups of the hours that are due. If the database is away, the next run tries again."""
    try:
        making.run(MAKE_SECONDS)
    except psycopg.Error as error:
        _wait(error)


@app.task(name="tasks.rollups.expire")
def expire() -> None:
    """Removes what is older than its retention. If the database is away, the next run tries again."""
    try:
        removing.run(EXPIRE_SECONDS)
    except psycopg.Error as error:
        _wait(error)


def _wait(error: psycopg.Error) -> None:
    if not database.lacks_column(error):
        log.warning("rollups_wait", error=str(error).strip())
        return
    # The tables come with the next `sluice migrate`.
    log.info("rollups_wait", error=str(error).strip())
