"""Every request gets its id, its bounds, an ETag, and an answer whatever happens inside."""

import asyncio
from typing import Any

import pytest
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from ingest.api import around, shares
from ingest.api.around import Around
from ingest.api.problems import Refused
from ingest.api.shares import Share
from tests.unit.ingest.api.asgi import Answer, ask, send


def anybody(_: str, _address: str) -> Share:
    """Every caller may have all requests."""
    return Share("anybody", 1.0)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the size of the body; fails at `/bug`."""
    message = await receive()
    if scope["path"] == "/bug":
        raise RuntimeError("a bug")
    await JSONResponse({"bytes": len(message["body"])})(scope, receive, send)


def test_an_answer_has_the_request_s_id_and_nothing_that_a_log_should_not_hold() -> None:
    """The caller's own if it is short and plain, otherwise a new one."""
    app = Around(echo, 10, anybody)
    assert ask(app, x_request_id="order-17")[1]["x-request-id"] == "order-17"
    for bad in ("", "a b", "x" * 65, "a\n"):
        assert len(ask(app, x_request_id=bad)[1]["x-request-id"]) == 32


def test_what_the_client_knows_is_not_sent_again() -> None:
    """304 without a body for the same ETag, in a list or weak too; for another one the whole answer."""
    app = Around(echo, 10, anybody)
    status, headers, document = ask(app)
    assert (status, document) == (200, {"bytes": 0})
    for known in (headers["etag"], f'"x", W/{headers["etag"]}', "*"):
        assert ask(app, if_none_match=known)[::2] == (304, None)
    assert ask(app, if_none_match='"x"')[0] == 200


def test_a_body_is_bounded_by_what_comes_and_not_by_what_it_says(monkeypatch: Any) -> None:
    """413 for one byte too many, in however many parts."""
    monkeypatch.setattr(around, "MOST_BODY_BYTES", 10)
    app = Around(echo, 10, anybody)
    assert ask(app, parts=(b"12345", b"67890"))[2] == {"bytes": 10}
    status, headers, problem = ask(app, parts=(b"12345", b"678901"))
    assert (status, headers["content-type"]) == (413, "application/problem+json")
    assert problem["request_id"] == headers["x-request-id"]


def test_a_bug_is_a_problem_with_the_id_that_the_log_has() -> None:
    """And the next request is answered."""
    app = Around(echo, 10, anybody)
    status, headers, problem = ask(app, "/bug", x_request_id="r1")
    assert (status, problem["request_id"], headers["x-request-id"]) == (500, "r1", "r1")
    assert ask(app)[0] == 200


def test_more_requests_than_can_wait_are_told_to_come_again() -> None:
    """Memory is bounded by the number of open requests."""
    status, headers, _ = ask(Around(echo, 0, anybody))
    assert (status, headers["retry-after"]) == (503, "5")


def test_a_request_of_nobody_is_refused_before_its_body_is_read() -> None:
    """So it holds no place while a body comes slowly."""

    def nobody(_: str, _address: str) -> Share:
        raise Refused(401, "The request has no token.", WWW_Authenticate="Bearer")

    # Without parts, whoever waits for the body fails.
    status, headers, problem = ask(Around(echo, 10, nobody), parts=(), method="POST")
    assert (status, problem["detail"], headers["www-authenticate"]) == (
        401,
        "The request has no token.",
        "Bearer",
    )


def test_whoever_fills_a_share_leaves_the_rest_to_others() -> None:
    """A request beyond the share must come again later; the place of a finished request is free."""
    free = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await free.wait()
        await echo(scope, receive, send)

    app = Around(slow, 8, lambda name, _: Share(name, 0.25))

    async def all_of_them() -> list[Answer]:
        begun = [asyncio.create_task(send(app, authorization=name)) for name in ("ada", "ada", "ada", "bob")]
        await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
        free.set()
        return [*await asyncio.gather(*begun), await send(app, authorization="ada")]

    assert [one.status for one in asyncio.run(all_of_them())] == [200, 200, 503, 200, 200]
    assert not app._open_of


def test_a_stream_is_sent_as_it_comes() -> None:
    """Each part before the next one is made, with the headers that every answer has and without an ETag."""
    sent: list[Message] = []

    async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        for number in range(2):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            assert len(sent) == 2 + number
        raise RuntimeError("a bug")

    async def take(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    # The server ends the connection: the client must not take it for all.
    with pytest.raises(RuntimeError):
        asyncio.run(Around(stream, 10, anybody)(scope, receive, take))
    headers = dict(sent[0]["headers"])
    assert {b"x-request-id", b"x-content-type-options"} <= headers.keys()
    assert b"etag" not in headers
    assert [one["body"] for one in sent[1:]] == [b"0", b"1"]


def test_a_stranger_s_slow_or_large_body_takes_no_place_from_others(monkeypatch: Any) -> None:
    """Each address has a few at the same time; others sign in meanwhile, and the operator has a place."""
    monkeypatch.setattr(around, "STRANGERS_BODY_SECONDS", 0.2)
    app = Around(echo, 32, lambda name, _: shares.OPERATOR if name else shares.STRANGERS, strangers_bytes=10)

    async def slowly(address: str) -> int:
        status: list[int] = []

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def take(message: Message) -> None:
            status.append(message.get("status", 0))

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
        await app({**scope, "client": (address, 1)}, receive, take)
        return status[0]

    async def all_of_them() -> tuple[list[int], Answer, Answer]:
        slow = [asyncio.create_task(slowly(f"192.0.2.{9 + number // 3}")) for number in range(36)]
        await asyncio.sleep(0.05)
        other, operator = await send(app), await send(app, authorization="x")
        return await asyncio.gather(*slow), other, operator

    slow, other, operator = asyncio.run(all_of_them())
    # Two of an address, which is a quarter of the strangers' eight.
    assert sorted(slow) == [408] * 24 + [503] * 12
    assert (other.status, operator.status) == (200, 200)
    large = ask(app, parts=(b"123456", b"78901"), method="POST")
    assert (large.status, "Sign in first" in large.document["detail"]) == (413, True)
    assert not app._open_of
    assert not app._strangers_at


def test_the_last_place_is_the_operator_s() -> None:
    """However many tenants fill the others."""
    free = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await free.wait()
        await echo(scope, receive, send)

    app = Around(slow, 4, lambda name, _: shares.OPERATOR if name == "operator" else Share(name, 0.5))

    async def all_of_them() -> list[int]:
        names = ["ada", "bob", "eve", "joe", "operator"]
        begun = [asyncio.create_task(send(app, authorization=name)) for name in names]
        await asyncio.sleep(0)
        free.set()
        return [one.status for one in await asyncio.gather(*begun)]

    assert asyncio.run(all_of_them()) == [200, 200, 200, 503, 200]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:0db8:0001:0002"),
        ("", ""),
    ],
)
def test_what_one_customer_has_counts_as_one_address(address: str, network: str) -> None:
    """For IPv6 it is a /64: there are as many addresses in it as anybody likes."""
    assert shares.network(address) == network
