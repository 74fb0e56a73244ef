"""The monitoring port of a process: `/metrics` for Prometheus, `/healthz` and `/readyz` for supervisors."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog

from tasks.observe import instruments
from tasks.settings import settings

log = structlog.get_logger()

# A scraper that connects and sends nothing must not hold a thread forever.
REQUEST_SECONDS = 10.0

Check = Callable[[], str]
"""Returns what is wrong, in a sentence, or an empty string when all is well."""


class Pulse:
    """Watches whether a loop still runs: call `turn` in each round, and `check` from any thread."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._turned_at = time.monotonic()

    def turn(self) -> None:
        """Notes a round of the loop."""
        self._turned_at = time.monotonic()

    def since_turn(self) -> float:
        """Seconds since the last round."""
        return time.monotonic() - self._turned_at

    def check(self) -> str:
        """Returns a sentence when the last round was longer ago than a round should ever take."""
        stuck = self.since_turn()
        return f"{self._name} has been stuck for {stuck:.0f} s" if stuck > self._seconds else ""


def first_problem(*checks: Check) -> Check:
    """Combines checks into one: it returns the first problem that any of them finds."""
    return lambda: next((problem for check in checks if (problem := check())), "")


def well() -> str:
    """A check that never fails, for a process that is well while it answers."""
    return ""


class Monitoring:
    """The HTTP server of one process, in threads of its own. Port 0 serves nothing, None any free port.

    `live` returns why the process should be restarted, `ready` why it cannot work at the moment, and `note` a
    remark about a ready process. If the port is taken, that is logged and the process goes on: the work
    matters more than its metrics.
    """

    def __init__(
        self,
        process: instruments.Process,
        port: int | None,
        *,
        live: Check = well,
        ready: Check = well,
        note: Check = well,
    ) -> None:
        instruments.begin(process)
        self._server: ThreadingHTTPServer | None = None
        if port == 0:
            return
        address = settings().metrics_host, port or 0
        try:
            self._server = _Server(address, _handler({"/healthz": (live, well), "/readyz": (ready, note)}))
        except OSError as error:
            log.error("metrics_not_served", host=address[0], port=port, error=str(error))  # noqa: TRY400 - it says all
            return
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on, 0 without one."""
        return 0 if self._server is None else self._server.server_port

    def close(self) -> None:
        """Stops listening, also in a child process that has inherited the socket."""
        if self._server is not None:
            # A forked child does not have its parent's thread; a running thread would go on polling a closed
            # socket.
            if self._thread.is_alive():
                self._server.shutdown()
            self._server.socket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's
        # The client has gone, or took too long; without this the base class prints a traceback to stderr.
        log.debug("monitoring_request_failed", client=str(client_address))


def _handler(checks: dict[str, tuple[Check, Check]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", instruments.exposition())
            elif (both := checks.get(path)) is not None:
                check, note = both
                problem = check()
                text = problem or "; ".join(("ok", note())).removesuffix("; ")
                self._answer(503 if problem else 200, "text/plain; charset=utf-8", f"{text}\n".encode())
            else:
                self._answer(404, "text/plain; charset=utf-8", b"/metrics, /healthz, /readyz\n")

        def log_message(self, *_: object) -> None:
            """Does nothing: a line for each scrape would be most of the log."""

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
