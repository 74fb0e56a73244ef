"""The console: its pages, and what is said in their place when something is wrong."""

from functools import partial
from http import HTTPStatus

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.letters.dlq_recent import Recent
from ingest.api import problems
from ingest.api.application import most_open
from ingest.api.around import Around
from ingest.api.callers import Gate
from ingest.api.connections import Connections
from ingest.console import guard, render
from ingest.console.guard import NotSignedIn
from ingest.console.pages import (
    accounts,
    accounts_csv,
    alerts,
    dead_letters,
    devices,
    login,
    rules,
    runbook,
    top,
)
from ingest.console.sessions import Seals
from ingest.console.sign_in import SignIn
from tasks.settings import Settings

log = structlog.get_logger()

ROOMS = (login, top, devices, alerts, dead_letters, rules, accounts, accounts_csv, runbook)


def build(chosen: Settings, connections: Connections, gate: Gate, recent: Recent) -> Around:
    """The console as a server runs it. All that it is given is the HTTP API's, too."""
    token = None if chosen.web_token is None else chosen.web_token.get_secret_value()
    seals = Seals(token)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.connections = connections
    app.state.recent = recent
    app.state.seals = seals
    app.state.sign_in = SignIn(gate, connections, seals)
    app.state.secure_cookies = chosen.web_secure_cookies
    for room in ROOMS:
        app.include_router(room.router)
    app.include_router(_static())
    _add_errors(app)
    return Around(
        app,
        most_open(chosen),
        partial(guard.share, seals),
        "cookie",
        render.refused,
        strangers_bytes=guard.SMALL_BYTES,
    )


def _static() -> APIRouter:
    """The style and the icon, which are for everybody."""
    router = APIRouter(prefix="/static")
    headers = {"cache-control": "public, max-age=86400"}

    @router.get("/console.css")
    def style() -> Response:
        return Response(render.STYLE, media_type="text/css; charset=utf-8", headers=headers)

    @router.get("/icon.svg")
    def icon() -> Response:
        return Response(render.ICON, media_type="image/svg+xml", headers=headers)

    return router


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(NotSignedIn)
    def _not_signed_in(request: Request, _: NotSignedIn) -> Response:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        target = render.url("/login", next=wanted if request.method == "GET" and wanted != "/" else None)
        return RedirectResponse(target, HTTPStatus.SEE_OTHER, {"cache-control": "no-store"})

    @app.exception_handler(problems.Refused)
    def _refused(request: Request, error: problems.Refused) -> Response:
        return render.refused(error.status, error.detail, error.headers, request)

    @app.exception_handler(ServerAway)
    def _away(request: Request, error: ServerAway) -> Response:
        log.warning("server_away", error=str(error))
        visitor = getattr(request.state, "visitor", None)
        said = problems.told(error, to_operator=visitor is not None and visitor.caller.is_operator)
        headers = {"Retry-After": str(problems.RETRY_SECONDS)}
        return render.refused(HTTPStatus.SERVICE_UNAVAILABLE, said, headers, request)

    @app.exception_handler(OperatorError)
    def _operator_error(request: Request, error: OperatorError) -> Response:
        return render.refused(problems.status_of(error), str(error), None, request)

    @app.exception_handler(Exception)
    def _failed(request: Request, _: Exception) -> Response:
        return render.refused(HTTPStatus.INTERNAL_SERVER_ERROR, problems.FAILED, None, request)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        faults = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        said = f"The address is not one of these pages: {'; '.join(faults[:5])}."
        return render.refused(HTTPStatus.UNPROCESSABLE_ENTITY, said, None, request)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        said = _SENTENCES.get(error.status_code, f"{error.detail}.")
        return render.refused(error.status_code, said, dict(error.headers or {}), request)


_SENTENCES: dict[int, str] = {
    HTTPStatus.NOT_FOUND: "There is no such page.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The page is not asked for in this way.",
}
