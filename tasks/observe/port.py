"""The monitoring port of a process: `/metrics` for Prometheus, `/healthz` and `/readyz` for supervisors."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog

from tasks.observe import instruments
from tasks.settings import settings

log = structlog.get_logger()

# A scraper that connects and says nothing must not hold a thread for ever.
REQUEST_SECONDS = 10.0

Check = Callable[[], str]
"""Returns what is wrong, in a sentence, or nothing when all is well."""


class Pulse:
    """Whether a loop still turns: `turn` at each of its turns, `check` from any thread."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._turned_at = time.monotonic()

    def turn(self) -> None:
        """The loop has come by."""
        self._turned_at = time.monotonic()

    def since_turn(self) -> float:
        """Seconds since the loop came by."""
        return time.monotonic() - self._turned_at

    def check(self) -> str:
        """Says so when the loop has not come by for longer than it ever should take."""
        stuck = self.since_turn()
        return f"{self._name} has been stuck for {stuck:.0f} s" if stuck > self._seconds else ""


def first_problem(*checks: Check) -> Check:
    """One check of several: what the first says that finds something."""
    return lambda: next((problem for check in checks if (problem := check())), "")


def well() -> str:
    """The check of a process that is well as long as it answers."""
    return ""


class Monitoring:
    """The HTTP server of one process, in threads of its own. Port 0 serves nothing, None any free port.

    `live` says why the process should be restarted, `ready` why it does no work at the moment, and `note`
    what should be known of one that is ready. A port that is taken is told in the log and stops nothing: the
    work matters more than the view of it.
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
        """The port that is listened on, 0 if none."""
        return 0 if self._server is None else self._server.server_port

    def close(self) -> None:
        """Stops listening, also in a child process that has inherited the socket."""
        if self._server is not None:
            # A forked child has no thread of its parent's; where there is one, it would go on asking for a
            # socket that is gone.
            if self._thread.is_alive():
                self._server.shutdown()
            self._server.socket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's
        # Who asked has gone, or took too long; without this the base class prints a traceback to stderr.
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
            """Nothing: a line for each scrape would be most of the log."""

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
