"""Connections that are kept waiting end; those of patient and of quick clients do not."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from ingest.api.deadlines import Deadlines
from tests.integration.fleet import wait_until

HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n"
PIECE = b"x" * 100_000


class Hasty(Deadlines):
    """Waits for nobody for long."""

    head_seconds = 0.5
    stalled_seconds = 0.5


@contextmanager
def server(protocol: type[Deadlines], pieces: int = 1, ended: threading.Event | None = None) -> Iterator[int]:
    """The port of a server whose answers have so many pieces; `ended` is set at the end of one."""

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(pieces):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        if ended is not None:
            ended.set()

    config = uvicorn.Config(answer, http=protocol, log_config=None, lifespan="off", timeout_keep_alive=1)
    running = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=running.run, args=[[listening]])
        thread.start()
        try:
            wait_until(lambda: running.started, 60, "the server")
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


def is_ended(client: socket.socket) -> bool:
    """Whether the server ends the connection within a minute."""
    client.settimeout(60)
    try:
        while client.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def test_who_sends_nothing_is_not_waited_for() -> None:
    """A connection without a byte ends."""
    with server(Hasty) as port, socket.create_connection(("127.0.0.1", port)) as client:
        assert is_ended(client)


def test_a_head_that_comes_byte_by_byte_has_one_deadline() -> None:
    """Each byte is sooner than the deadline, the whole head is not: also in a second request."""
    with server(Hasty) as port:
        for before in (b"", HEAD + b"\r\n"):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(before)
                began = time.monotonic()
                try:
                    while time.monotonic() < began + 60:
                        client.sendall(HEAD[:1])
                        time.sleep(0.1)
                except OSError:
                    pass
                assert time.monotonic() < began + 60


def test_a_client_that_takes_nothing_holds_up_no_answer() -> None:
    """An answer of 40 MB to someone who reads none of it comes to its end."""
    ended = threading.Event()
    with server(Hasty, 400, ended) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(HEAD + b"\r\n")
        assert ended.wait(60)


def test_a_client_that_takes_its_time_gets_all() -> None:
    """Each piece is taken sooner than the deadline, the whole answer later."""
    with server(Deadlines, 40) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(HEAD + b"Connection: close\r\n\r\n")
        taken = 0
        while piece := client.recv(200_000):
            taken += len(piece)
            time.sleep(0.01)
        assert taken > 40 * len(PIECE)


def test_a_connection_is_used_again() -> None:
    """A second request on the same connection, a moment later, is answered as the first."""
    with server(Deadlines) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(60)
        for _ in range(2):
            client.sendall(HEAD + b"\r\n")
            taken = b""
            while not taken.endswith(b"\r\n0\r\n\r\n"):
                taken += client.recv(200_000)
            assert taken.startswith(b"HTTP/1.1 200")
            time.sleep(0.2)
