"""Servers that channels send to: HTTP and SMTP, which answer as a test wants."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller

HANG_SECONDS = 60.0


class Answer(NamedTuple):
    """The server's answer, after some seconds."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    after_s: float = 0.0


class Call(NamedTuple):
    """A request that the server got, and the status that it answered."""

    path: str
    headers: dict[str, str]
    content: bytes
    status: int
    at: float

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return self.headers["idempotency-key"]

    @property
    def notice(self) -> dict[str, Any]:
        """The change that it reports."""
        found = json.loads(self.content)
        assert isinstance(found, dict)
        return found


class Receiver:
    """An HTTP server and what came to it."""

    def __init__(self, port: int, calls: list[Call], ending: threading.Event) -> None:
        self.calls, self._port, self.ending = calls, port, ending

    def url(self, path: str = "/hook") -> str:
        """Where a path of it is."""
        return f"http://127.0.0.1:{self._port}{path}"

    def told(self, path: str = "/hook") -> list[Call]:
        """The requests for the path that it confirmed."""
        return [call for call in self.calls if call.path == path and call.status == 200]


@contextmanager
def http_receiver(
    answer: Callable[[str, int], Answer] = lambda _path, _number: Answer(),
    *,
    by_key: Callable[[str], Answer] | None = None,
) -> Iterator[Receiver]:
    """A server that answers by the path and the number of the request, or by its idempotency key."""
    calls: list[Call] = []
    lock, ending = threading.Lock(), threading.Event()
    numbers = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                number = next(numbers)
                chosen = by_key(headers["idempotency-key"]) if by_key else answer(self.path, number)
            calls.append(Call(self.path, headers, content, chosen.status, time.monotonic()))
            ending.wait(chosen.after_s)
            self.send_response(chosen.status)
            for name, value in chosen.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Does nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """Does nothing: the other side may have gone."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Receiver(server.server_port, calls, ending)
    finally:
        ending.set()
        server.shutdown()
        server.server_close()


class Mailbox:
    """A mail server and what came to it.

    `replies` are given to the next mails instead of taking them, a 550 to each address in `unknown`. While
    `hangs`, it answers no mail; `hung` has when each of them was no longer waited for.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.replies: list[str] = []
        self.unknown: set[str] = set()
        self.hangs = False
        self.hung: list[float] = []
        self.port = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        """Takes an address, or not."""
        if address in self.unknown:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        """Takes a mail, or not."""
        if self.hangs:
            try:
                await asyncio.sleep(HANG_SECONDS)
            finally:
                self.hung.append(time.monotonic())
            return "451 too late"
        if self.replies:
            return self.replies.pop(0)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """A real SMTP server on a free port."""
    mailbox = Mailbox()
    # The controller connects to the port that it was given.
    with socket.create_server(("127.0.0.1", 0)) as free:
        mailbox.port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()
