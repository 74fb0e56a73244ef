"""A container's health check says what the process in it says of itself."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from compose import healthcheck


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        well = self.path == "/healthz"
        self.send_response(200 if well else 503)
        self.end_headers()
        self.wfile.write(b"ok" if well else b"the broker is away")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """A process that is well at /healthz and at no other path."""
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_process_that_is_well_is_healthy(port: int) -> None:
    """An answer of 200 is health."""
    assert healthcheck.fault({"HEALTH_URL": f"http://127.0.0.1:{port}/healthz"}) == ""


def test_what_is_wrong_is_told(port: int) -> None:
    """The process's own words are the fault; a missing answer is one, too."""
    assert healthcheck.fault({"HEALTH_URL": f"http://127.0.0.1:{port}/readyz"}) == "the broker is away"
    assert "refused" in healthcheck.fault({"HEALTH_URL": "http://127.0.0.1:1/healthz"})


def test_only_this_container_is_asked() -> None:
    """An address elsewhere is a mistake, not a check."""
    assert "HEALTH_URL" in healthcheck.fault({"HEALTH_URL": "http://elsewhere.example/"})
