"""One request to an ASGI application, without a server."""

import asyncio
import json
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message


class Answer(NamedTuple):
    """The answer to the request; the document is JSON, or text."""

    status: int
    headers: dict[str, str]
    document: Any


async def send(
    app: ASGIApp,
    path: str = "/",
    parts: tuple[bytes, ...] = (b"",),
    query: str = "",
    method: str = "GET",
    scheme: str = "http",
    **headers: str,
) -> Answer:
    """The answer to a request with these parts of a body."""
    sent: list[Message] = []
    waiting = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]

    async def receive() -> Message:
        return waiting.pop(0)

    async def take(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "scheme": scheme,
        "path": path,
        "query_string": query.encode(),
        "client": ("192.0.2.1", 1234),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, take)
    start, *bodies = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    body = b"".join(one["body"] for one in bodies)
    text = found.get("content-type", "").startswith("text/")
    return Answer(start["status"], found, body.decode() if text else json.loads(body or b"null"))


def ask(app: ASGIApp, path: str = "/", parts: tuple[bytes, ...] = (b"",), **more: str) -> Answer:
    """The same, for tests without a loop of their own."""
    return asyncio.run(send(app, path, parts, **more))
