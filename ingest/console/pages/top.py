"""The first page: all well, or the worst thing; and where messages are on their way."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ingest.admin import devices
from ingest.admin.alerting import alerts
from ingest.admin.errors import ServerAway
from ingest.admin.servers import status
from ingest.api.callers import Caller
from ingest.api.connections import Connections
from ingest.api.inputs import Database
from ingest.api.problems import Refused, told
from ingest.api.routes.status import shared
from ingest.console import chain, render, runbook
from ingest.console.guard import Visiting, Word

# The number shown of each kind; the pages behind have all.
SHOWN = 5
LIVE_SECONDS = 10

router = APIRouter()


@router.get("/")
def top(request: Request, visitor: Visiting, database: Database, live: Word = None) -> Response:
    """How everything is; of a tenant's, the tenant's own."""
    own = _own(database, visitor.caller)
    every = LIVE_SECONDS if live else None
    if not visitor.caller.is_operator:
        return render.page("top.html", request, **own, refresh=every, wrong=None, steps=[])
    look = shared()
    found = [(one.text, runbook.path(one.entry)) for one in status.wrong_with(look)]
    return render.page(
        "top.html",
        request,
        **own,
        refresh=every,
        wrong=found,
        steps=chain.steps(look),
        beside=chain.beside(look),
        domains=chain.domains(look),
    )


def _own(database: Connections, caller: Caller) -> dict[str, Any]:
    """The open alerts and the devices that are longest silent, or why they are not known."""
    try:
        with database.reading() as connection:
            opened = alerts.worst(connection, alerts.Selection(caller.user_id), SHOWN + 1)
            silent = devices.listed(connection, devices.Selection(caller.user_id), SHOWN)
    except (ServerAway, Refused) as error:
        said = str(error)
        if isinstance(error, ServerAway):
            said = told(error, to_operator=caller.is_operator)
        return {"away": said, "alerts": [], "more": False, "silent": []}
    return {"away": "", "alerts": opened[:SHOWN], "more": len(opened) > SHOWN, "silent": silent}
