"""States that this version of Sluice cannot read: what another version wrote, for example before a rollback.

A worker that runs and has that version reads them, so this one waits. Once there is none, they are as good as
lost: they are rebuilt from the tables.
"""

import structlog

from tasks.alerts import generation
from tasks.alerts.rebuild import rebuild_states
from tasks.errors import NotNow
from tasks.observe.metrics import worker as metrics
from tasks.rules.state import VERSION, UnknownState
from tasks.servers import backoff, workers
from tasks.servers.redis_client import ALERTS_READY, client

log = structlog.get_logger()

_REST = "states:unknown"


class StatesOfAnotherVersion(NotNow):
    """Workers of another version write the states; stop either these or those."""


def forget(error: UnknownState, seen_in: str) -> None:
    """Rebuilds the states of the generation in which an unknown one was seen, or waits for who can read it.

    Raises `StatesOfAnotherVersion`, and like `rebuild_states`.
    """
    metrics.STATES_UNKNOWN.add(1)
    others = workers.state_versions() - {VERSION}
    if error.version in others:
        raise StatesOfAnotherVersion(f"{error}, and a worker with that version runs")
    if backoff.rests(_REST):
        raise StatesOfAnotherVersion(f"{error}, and they were rebuilt a moment ago")
    log.error("states_unknown", error=str(error), again_in_s=backoff.failed(_REST))
    if generation.current() == seen_in:
        client().delete(ALERTS_READY)
    rebuild_states()
