"""Gives every request an id, bounds, an ETag, a line in the log, and a measurement."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.api import problems, request_ids, shares
from ingest.api.shares import Share
from tasks.observe.metrics import web as metrics

log = structlog.get_logger()

MOST_BODY_BYTES = 2 * 1024 * 1024
# A body that comes more slowly than this is not waited for; and one of whom nobody knows yet.
BODY_SECONDS, STRANGERS_BODY_SECONDS = 30.0, 10.0
# One address gets this part of what strangers may have open, so that a few cannot close the door to all.
OF_AN_ADDRESS = 0.25

# Answers of these types are sent as they come: they may have no end, or take long.
STREAMED = ("text/event-stream", "application/x-ndjson")

_HEADERS = {
    "cache-control": "private, no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class Around:
    """The application, with at most `most_open` requests at the same time.

    Their answers are held whole, but for those of the types that are `STREAMED`. The last place is the
    operator's.

    `share` says by one header and the address whose a request is, before its body is read; or raises
    `Refused`, which is the answer, as `refuse` makes it. With `strangers_bytes` the bodies of strangers'
    requests are at most so large, and hold no place while they come.
    """

    def __init__(
        self,
        app: ASGIApp,
        most_open: int,
        share: Callable[[str, str], Share],
        header: str = "authorization",
        refuse: Callable[[int, str, dict[str, str] | None], ASGIApp] = problems.answer,
        strangers_bytes: int | None = None,
    ) -> None:
        self._app = app
        self._most_open = most_open
        self._share = share
        self._header = header
        self._refuse = refuse
        self._open = 0
        self._open_of = Counter[str]()
        self._strangers_bytes = strangers_bytes
        self._strangers_at = Counter[str]()

    @property
    def open(self) -> int:
        """How many requests are open."""
        return self._open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = request_ids.begin(headers.get(request_ids.HEADER, ""))
        answer = _Answer(send, request_id)
        self._open += 1
        try:
            # The place is held until the answer is sent: its memory is what is bounded.
            with structlog.contextvars.bound_contextvars(request_id=request_id), ExitStack() as held:
                await self._answer(scope, receive, answer, held)
                await answer.send_whole(headers.get("if-none-match", ""), scope["method"])
                seconds = time.perf_counter() - begun
                _note(scope, answer.status, seconds)
        finally:
            self._open -= 1

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer", held: ExitStack) -> None:
        address = (scope.get("client") or ("",))[0]
        try:
            share = self._share(Headers(scope=scope).get(self._header, ""), address)
            if share.is_strangers:
                held.enter_context(self._door(shares.network(address)))
            body = None
            if share.is_strangers and self._strangers_bytes is not None:
                body = await self._body(receive, min(self._strangers_bytes, MOST_BODY_BYTES), share)
            held.enter_context(self._place(share))
            held.enter_context(shares.counted_to(share))
            if body is None:
                body = await self._body(receive, MOST_BODY_BYTES, share)
            await self._work(scope, _replay(body, receive), answer)
        except problems.Refused as error:
            await self._refuse(error.status, error.detail, error.headers)(scope, receive, answer.take)

    @contextmanager
    def _door(self, network: str) -> Iterator[None]:
        """A place among those of the strangers of one address, for the block. Raises `Busy`."""
        most = max(1, int(OF_AN_ADDRESS * shares.STRANGERS.part * self._most_open))
        if self._strangers_at[network] >= most:
            raise problems.Busy(
                "Too many requests of strangers are open from this address. Wait for their answers first."
            )
        self._strangers_at[network] += 1
        try:
            yield
        finally:
            self._strangers_at[network] -= 1
            self._strangers_at += Counter()

    @contextmanager
    def _place(self, share: Share) -> Iterator[None]:
        """A place among those of the caller, for the block. Raises `Busy`."""
        if self._open_of.total() >= self._most_open - share.is_bounded:
            raise problems.Busy("Too many requests are open at the same time. Try again in a moment.")
        if self._open_of[share.name] >= max(1, int(share.part * self._most_open)):
            raise problems.Busy(
                "Too many requests like this are open at the same time. Wait for their answers first."
            )
        self._open_of[share.name] += 1
        try:
            yield
        finally:
            self._open_of[share.name] -= 1
            # Only who has requests open is remembered.
            self._open_of += Counter()

    async def _body(self, receive: Receive, most: int, share: Share) -> bytes:
        """The body of the request. Raises `Refused` (413, 408) for one that is too large or too slow."""
        seconds = STRANGERS_BODY_SECONDS if share.is_strangers else BODY_SECONDS
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise problems.Refused(
                            413, f"The body has more than {most:,} bytes. {self._less(most)}"
                        )
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise problems.Refused(408, f"The body did not come within {seconds:.0f} s.") from None

    def _less(self, most: int) -> str:
        return "Sign in first, or send less." if most == self._strangers_bytes else "Send less at once."

    async def _work(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            await self._app(scope, receive, answer.take)
        except Exception:
            log.exception("request_failed")
            if answer.streamed:
                raise  # the server ends the connection, and the client sees that this was not all
            if not answer.status:
                await self._refuse(500, problems.FAILED, None)(scope, receive, answer.take)


class _Answer:
    """An answer that is held until it is whole, or else is sent as it comes."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.streamed = False
        self._start: MutableMapping[str, Any] = {}
        self._body = bytearray()

    @property
    def status(self) -> int:
        """The status; 0 while there is none."""
        return int(self._start.get("status", 0))

    async def take(self, message: Message) -> None:
        """Takes a message of the application."""
        if message["type"] == "http.response.start":
            self._start = message
            headers = self._headers()
            self.streamed = headers.get("content-type", "").startswith(STREAMED)
            if self.streamed:
                await self._send(message)
        elif self.streamed:
            await self._send(message)
        else:
            self._body += message.get("body", b"")

    def _headers(self) -> MutableHeaders:
        """Those of the answer, with what every answer has."""
        headers = MutableHeaders(scope=self._start)
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        headers[request_ids.HEADER] = self._request_id
        return headers

    async def send_whole(self, known: str, method: str) -> None:
        """Sends the answer, or that what the client knows is still true; unless it was sent as it came."""
        if self.streamed:
            return
        headers = self._headers()
        if method == "GET" and self.status == 200:
            etag = headers.get("etag") or tag(bytes(self._body))
            headers["etag"] = etag
            if known == "*" or etag in [one.strip().removeprefix("W/") for one in known.split(",")]:
                self._start["status"] = 304
                self._body.clear()
                del headers["content-length"]
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": bytes(self._body)})


def tag(content: bytes) -> str:
    """The ETag of an answer that this decides."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _note(scope: Scope, status: int, seconds: float) -> None:
    # The route and not the path: there are as many paths as devices.
    route = getattr(scope.get("route"), "path", "none")
    metrics.REQUESTS.add(1, route, str(status))
    metrics.SECONDS.observe(seconds, route)
    log.info("request", method=scope["method"], route=route, status=status, seconds=round(seconds, 4))
