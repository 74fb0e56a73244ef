"""The parts that every page has, without a server."""

import asyncio
from typing import Any

from fastapi import Request
from starlette.types import Message

from ingest.admin.letters.dlq_recent import Recent
from ingest.api import around
from ingest.api.around import Around
from ingest.api.callers import Gate
from ingest.api.connections import Connections
from ingest.api.shares import Share
from ingest.console import application, guard, render
from tasks.settings import Settings
from tests.unit.ingest.api.asgi import ask


def console(**values: Any) -> Around:
    """The console, with a database that is not asked."""
    chosen = Settings(_env_file=None, **{"web_token": "operator-of-the-tests", **values})
    connections = Connections(1, 1.0)
    return application.build(chosen, connections, Gate(chosen, connections), Recent())


def test_cookies_are_for_tls_alone_where_that_is_known() -> None:
    """By the setting, or by the request; no script reads them, and other sites' forms do not send them."""
    plain = ask(console(), "/login").headers["set-cookie"]
    assert plain.startswith("sluice_sign_in=")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(plain.split("; "))
    assert "Secure" not in plain
    for answer in (
        ask(console(web_secure_cookies=True), "/login"),
        ask(console(), "/login", scheme="https"),
    ):
        secure = answer.headers["set-cookie"]
        assert secure.startswith("__Host-sluice_sign_in=")
        assert {"HttpOnly", "Secure", "Path=/"} <= set(secure.split("; "))


def test_every_answer_is_a_page_that_runs_nothing(monkeypatch: Any) -> None:
    """Also of what is too large, too much, no form, or nowhere."""
    monkeypatch.setattr(around, "MOST_BODY_BYTES", 10)
    app = console()
    crowded = Around(app, 0, lambda _, __: Share("strangers", 1.0), "cookie", render.refused)
    answers = {
        404: ask(app, "/nothing"),
        405: ask(app, "/login", method="DELETE"),
        413: ask(app, "/login", (b"x" * 11,), method="POST"),
        422: ask(app, "/login", (b"\xff",), method="POST"),
        503: ask(crowded, "/login"),
    }
    for status, answer in answers.items():
        assert answer.status == status
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
        assert answer.headers["cache-control"] == "no-store"
        assert 'role="alert"' in answer.document
        assert answer.headers["x-request-id"] in answer.document
    style = ask(app, "/static/console.css")
    assert (style.status, "prefers-color-scheme: dark" in style.document) == (200, True)
    assert "public" in style.headers["cache-control"]


def test_a_page_without_a_session_leads_to_where_one_begins() -> None:
    """And from there to the page."""
    answer = ask(console(), "/device", query="user=ada&device=a%2Fb")
    assert (answer.status, answer.headers["location"]) == (
        *(303, "/login?next=%2Fdevice%3Fuser%3Dada%26device%3Da%252Fb"),
    )
    forged = ask(console(), "/alerts", cookie="sluice_session=e30.x; __Host-sluice_session=e30.x")
    assert (forged.status, forged.headers["location"]) == (303, "/login?next=%2Falerts")


def test_a_form_of_a_stranger_is_small_and_a_large_one_stops_nobody_else() -> None:
    """Of 16 KB at most before the session; one of a session is parsed while others are answered."""
    assert ask(console(), "/login", (b"a" * (guard.SMALL_BYTES + 1),), method="POST").status == 413
    body = b"a=" + b"%c3%a9" * 340_000

    async def parsed() -> tuple[dict[str, str], int]:
        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        request = Request({"type": "http", "headers": []}, receive)
        reading = asyncio.create_task(guard.fields(request))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0.001)
            turns += 1
        return reading.result(), turns

    found, turns = asyncio.run(parsed())
    assert len(found["a"]) == 340_000
    assert turns > 5
