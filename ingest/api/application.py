"""The application: its routes, its description by OpenAPI, and what it holds while it runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI

from ingest.admin.letters.dlq_recent import Recent
from ingest.api import problems
from ingest.api.around import Around
from ingest.api.callers import Anybody, Gate
from ingest.api.connections import Connections
from ingest.api.feed import Feed
from ingest.api.problems import Problem, described
from ingest.api.routes import accounts, alerts, channels, dead_letters, devices, events, rules, status
from tasks.settings import Settings

PREFIX = "/api/v1"
# Threads that wait for something other than the database: more than all `Places` have for that together.
SPARE_THREADS = 20
# Requests that wait, for each that is worked on.
WAITING = 4

_ABOUT = """What Sluice knows and does, for programs: devices, their readings, alerts, rules, channels,
dead letters, accounts. Every request needs `Authorization: Bearer TOKEN`. The operator's token sees all; a
tenant's token sees the tenant's own, and for it there is nothing else. Errors are `application/problem+json`.
Lists come in pages: `next` is the `cursor` of the page after."""


def build(
    chosen: Settings,
    connections: Connections,
    gate: Gate,
    recent: Recent,
    turn: Callable[[], None],
    is_ending: Callable[[], bool] = lambda: False,
) -> Around:
    """The application as a server runs it; `turn` is called every second while it runs.

    When `is_ending` is true, what has no end of its own ends. It closes the connections at its end.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _threads(chosen)
        pulse = asyncio.create_task(_beat(turn))
        try:
            yield
        finally:
            pulse.cancel()
            connections.close()
            recent.close()

    app = FastAPI(
        title="Sluice",
        version=version("sluice"),
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=described(401, 404, 422, 429, 503, 504),
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.connections = connections
    app.state.recent = recent
    app.state.gate = gate
    app.state.feed = Feed(connections, is_ending)
    problems.add_to(app)
    for room in (status, devices, alerts, rules, channels, dead_letters, accounts, events):
        app.include_router(room.router, prefix=PREFIX)
    app.include_router(_description(app), prefix=PREFIX)
    return Around(app, most_open(chosen), gate.share)


def most_open(chosen: Settings) -> int:
    """How many requests may be open at the same time."""
    return WAITING * _threads(chosen)


def _threads(chosen: Settings) -> int:
    return chosen.web_connections + SPARE_THREADS


async def _beat(turn: Callable[[], None]) -> None:
    while True:
        turn()
        await asyncio.sleep(1)


def _description(app: FastAPI) -> APIRouter:
    router = APIRouter(tags=["description"])
    known: dict[str, Any] = {}

    @router.get("/openapi.json")
    def openapi(_: Anybody) -> dict[str, Any]:
        """This description."""
        if not known:
            known.update(describe(app))
        return known

    return router


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the problems."""
    found = app.openapi()
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    found["components"]["schemas"] |= {**schema.pop("$defs"), "Problem": schema}
    return found
