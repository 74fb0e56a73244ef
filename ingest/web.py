"""The web process: the HTTP API, `/api/v1/…`, and the console, which is every other path.

It keeps nothing that is not elsewhere, and no other process needs it. It answers while Postgres, Redis or
Kafka is away: a route that needs one says so.
"""

import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.admin import postgres
from ingest.admin.letters.dlq_recent import Recent
from ingest.api import application
from ingest.api.callers import Gate
from ingest.api.connections import Connections
from ingest.api.deadlines import Deadlines
from ingest.console import application as console
from tasks import registry
from tasks.observe import logs
from tasks.observe.metrics import web as metrics
from tasks.observe.port import Monitoring, Pulse
from tasks.settings import Settings, settings

log = structlog.get_logger()

STUCK_SECONDS = 30.0
# Connections beyond these get 503 from the server itself.
MOST_CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 15


class _Server(uvicorn.Server):
    """A server that leaves the signals to `main`: it ends with 0 after a stop, as all processes do."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Both:
    """The HTTP API behind `/api/`, with its life span, and the console at every other path."""

    def __init__(self, api: ASGIApp, console: ASGIApp) -> None:
        self._api = api
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request to the application that it is for."""
        people = scope["type"] == "http" and not scope["path"].startswith("/api/")
        await (self._console if people else self._api)(scope, receive, send)


def build(
    chosen: Settings, pulse: Pulse, recent: Recent, is_ending: Callable[[], bool] = lambda: False
) -> ASGIApp:
    """Both applications, with the same connections and limits; see the HTTP API's for `is_ending`."""
    connections = Connections(chosen.web_connections, chosen.web_statement_timeout_seconds)
    gate = Gate(chosen, connections)
    api = application.build(chosen, connections, gate, recent, pulse.turn, is_ending)
    pages = console.build(chosen, connections, gate, recent)
    metrics.OPEN.read_from(lambda: api.open + pages.open)
    return _Both(api, pages)


def config(chosen: Settings, app: ASGIApp) -> uvicorn.Config:
    """How the server serves the application."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(chosen.web_trusted_proxies),
        forwarded_allow_ips=chosen.web_trusted_proxies,
        http=Deadlines,
        lifespan="on",
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(chosen.stop_grace_seconds),
    )


def serve(chosen: Settings, listening: socket.socket) -> None:
    """Answers until SIGTERM or SIGINT, then finishes what it has begun within STOP_GRACE_SECONDS."""
    pulse = Pulse("the web process", STUCK_SECONDS)
    ending = threading.Event()
    recent = Recent()
    server = _Server(config(chosen, build(chosen, pulse, recent, ending.is_set)))

    def stop(_signal: int, _frame: FrameType | None) -> None:
        ending.set()
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    Monitoring("web", chosen.web_metrics_port, live=pulse.check, ready=pulse.check)
    threading.Thread(target=recent.warm, args=[registry.domains()], name="warm", daemon=True).start()
    log.info("web_started", host=chosen.web_host, port=chosen.web_port)
    server.run(sockets=[listening])
    log.info("web_stopped")


def main() -> None:
    """Runs the web process; ends with 1 when its port is taken."""
    logs.configure()
    # Its notes of starting and stopping say what ours say.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    chosen = settings()
    # Its rights are those of its own role, also where it shares a file of settings with the commands.
    postgres.give_up_ownership()
    try:
        family = socket.AF_INET6 if ":" in chosen.web_host else socket.AF_INET
        listening = socket.create_server((chosen.web_host, chosen.web_port), family=family, backlog=256)
    except OSError as error:
        log.error(  # noqa: TRY400 - the sentence says all, a traceback nothing
            "web_port_not_free",
            error=f"WEB_HOST:WEB_PORT {chosen.web_host}:{chosen.web_port}: {error.strerror}",
        )
        sys.exit(1)
    serve(chosen, listening)


if __name__ == "__main__":
    main()
