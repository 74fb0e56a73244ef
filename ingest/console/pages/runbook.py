"""What to do when something is wrong."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ingest.console import render, runbook
from ingest.console.guard import Operating

router = APIRouter()


@router.get("/runbook")
def page(request: Request, _: Operating) -> Response:
    """The runbook: one entry for each alert about Sluice itself."""
    return render.page("runbook.html", request, entries=runbook.as_html())
