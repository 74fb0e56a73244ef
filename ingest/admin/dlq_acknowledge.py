"""The work of `sluice dlq acknowledge`: closes dead letters that need no action."""

from typing import Any
from uuid import uuid4

from ingest.admin.audit import note
from ingest.admin.dlq_list import find, reading
from ingest.admin.dlq_outcome import Outlook
from ingest.admin.errors import ServerAway
from ingest.admin.postgres import session
from tasks.dead_letters import replayed
from tasks.dead_letters.letter import Filters, LetterId
from tasks.domain.domain import AnyDomain


def select(domain: AnyDomain, filters: Filters) -> set[LetterId]:
    """The open letters that match. Raises `ServerAway`, also when it is unknown which are open."""
    with reading() as reader, Outlook(reader, domain) as outlook:
        found = {standing.letter.id for standing in outlook.standings(filters) if standing.state.is_open}
        if outlook.database_away:
            raise ServerAway(
                f"The database could not be asked which letters are open: {outlook.database_away}"
            )
    return found


def select_one(domain: AnyDomain, wanted: str) -> set[LetterId]:
    """The letter of this key or place, if it is open. Raises `OperatorError`."""
    _, standing = find(domain, wanted)
    return {standing.letter.id} if standing.state.is_open else set()


def acknowledge(domain: AnyDomain, letters: set[LetterId], what: dict[str, Any]) -> tuple[int, str]:
    """Closes the letters, with a line in the audit trail; returns how many were open still, and the run's id.

    Raises `OperatorError`.
    """
    run_id = f"acknowledged-{uuid4()}"
    with session() as connection, connection.transaction():
        count = replayed.acknowledge(connection, run_id, letters)
        note(
            connection,
            "ACKNOWLEDGE",
            "replayed_letters",
            run_id,
            {"domain": domain.name, **what, "letters": count},
        )
    return count, run_id
