"""Writes changes of alerts to the tables again that these had refused."""

import json

import psycopg
import structlog

from tasks.dead_letters.letter import Letter
from tasks.outbox import tables
from tasks.outbox.entry import Entry
from tasks.servers import database

log = structlog.get_logger()


def write(letters: list[Letter]) -> set[Letter]:
    """Writes the changes and returns the letters whose changes are in the tables now; others stay open.

    Safe to run any number of times. Raises `psycopg.Error` when the database is away.
    """
    return {letter for letter in letters if _write(letter)}


def _write(letter: Letter) -> bool:
    try:
        document = json.loads(letter.payload)
        with database.access() as connection:
            tables.write_again(connection, Entry(document["id"], document))
    except psycopg.Error as error:
        if not (database.refuses_data(error) or database.may_be_repeatable(error)):
            raise
        reason = str(error).strip()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        return True
    log.warning("alert_change_not_written", key=letter.id.key, error=reason)
    return False
