"""States that this version of Sluice cannot read: another version wrote them, for example before a rollback.

While a worker of that version runs, it can read them, and this one waits. Once none runs, they count as lost
and are rebuilt from the tables.
"""

import structlog

from tasks.alerts.rebuild import rebuild_states
from tasks.errors import NotNow
from tasks.observe.metrics import worker as metrics
from tasks.rules.state import VERSION, UnknownState
from tasks.servers import backoff, generation, workers
from tasks.servers.redis_client import ALERTS_READY, client

log = structlog.get_logger()

_REST = "states:unknown"


class StatesOfAnotherVersion(NotNow):
    """Workers of another version write the states; stop either these or those."""


def forget(error: UnknownState, seen_in: str) -> None:
    """Rebuilds the states of the generation in which an unknown one was seen.

    Raises `StatesOfAnotherVersion` while a worker runs that can read it, or soon after a rebuild for this
    reason, and like `rebuild_states`.
    """
    metrics.STATES_UNKNOWN.add(1)
    others = workers.state_versions() - {VERSION}
    if error.version in others:
        raise StatesOfAnotherVersion(f"{error}, and a worker of that version is running")
    if backoff.rests(_REST):
        raise StatesOfAnotherVersion(f"{error}, and they were rebuilt a moment ago")
    log.error("states_unknown", error=str(error), again_in_s=backoff.failed(_REST))
    if generation.current() == seen_in:
        client().delete(ALERTS_READY)
    rebuild_states()
