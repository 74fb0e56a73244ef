"""The work of `sluice dlq acknowledge`: closes dead letters that need no action."""

from collections.abc import Callable
from itertools import islice
from typing import Any
from uuid import uuid4

from ingest.admin.audit import note
from ingest.admin.errors import ServerAway
from ingest.admin.letters.dlq_groups import TooManyLetters
from ingest.admin.letters.dlq_list import find, reading
from ingest.admin.letters.dlq_outcome import Outlook
from ingest.admin.postgres import Connection, session
from tasks.dead_letters import replayed
from tasks.dead_letters.letter import Filters, LetterId
from tasks.domain.domain import AnyDomain
from tasks.servers.topic_reader import TopicReader


def select(
    domain: AnyDomain,
    filters: Filters,
    most: int | None = None,
    make: Callable[[], TopicReader] = TopicReader,
) -> set[LetterId]:
    """The open letters that match, by a reader of that make.

    Raises `ServerAway`, also when it is unknown which are open, and `TooManyLetters` for more than `most`.
    """
    with reading(make) as reader, Outlook(reader, domain) as outlook:
        opened = (one.letter.id for one in outlook.standings(filters) if one.state.is_open)
        found = set(opened if most is None else islice(opened, most + 1))
        if outlook.database_away:
            raise unknown_which(outlook.database_away)
    return found if most is None else at_most(most, found)


def at_most(most: int, letters: set[LetterId]) -> set[LetterId]:
    """The letters, unless there are more. Raises `TooManyLetters`."""
    if len(letters) > most:
        raise TooManyLetters(f"There are more than {most:,} of these letters. Ask for a shorter time.")
    return letters


def unknown_which(database_away: str) -> ServerAway:
    """The error when the database cannot say which letters are open."""
    return ServerAway(f"The database could not be asked which letters are open: {database_away}")


def select_one(domain: AnyDomain, wanted: str) -> set[LetterId]:
    """The letter of this key or place, if it is open. Raises `OperatorError`."""
    _, standing = find(domain, wanted)
    return {standing.letter.id} if standing.state.is_open else set()


def acknowledge(domain: AnyDomain, letters: set[LetterId], what: dict[str, Any]) -> tuple[int, str]:
    """Closes the letters, with a line in the audit trail; returns how many were open still, and the run's id.

    Raises `OperatorError`.
    """
    with session() as connection, connection.transaction():
        return close(connection, domain, letters, what)


def close(
    connection: Connection, domain: AnyDomain, letters: set[LetterId], what: dict[str, Any]
) -> tuple[int, str]:
    """The same in a transaction of the caller's. Raises `psycopg.Error`."""
    run_id = f"acknowledged-{uuid4()}"
    count = replayed.acknowledge(connection, run_id, letters)
    arguments = {"domain": domain.name, **what, "letters": count}
    note(connection, "ACKNOWLEDGE", "replayed_letters", run_id, arguments)
    return count, run_id
