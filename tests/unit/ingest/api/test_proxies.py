"""The address of a request that comes through a reverse proxy."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ingest import web
from tasks.settings import Settings


def chosen(proxies: str) -> Settings:
    """Settings with these proxies."""
    return Settings(_env_file=None, web_trusted_proxies=proxies)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        ("", "198.51.100.7", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "198.51.100.7"),
        ("192.0.2.0/24", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.5", "198.51.100.7", "192.0.2.1"),
    ],
)
def test_only_a_trusted_proxy_says_whose_a_request_is(proxies: str, forwarded: str, address: str) -> None:
    """By default nobody; of what it passes on only the address that it has seen itself."""
    seen: list[Any] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["client"][0])

    config = web.config(chosen(proxies), app)
    config.load()
    assert isinstance(config.loaded_app, ProxyHeadersMiddleware) == bool(proxies)
    headers = [(b"x-forwarded-for", forwarded.encode())]
    scope = {"type": "http", "client": ("192.0.2.1", 1), "headers": headers}
    asyncio.run(config.loaded_app(scope, None, None))
    assert seen == [address]


@pytest.mark.parametrize("wrong", ["*", "proxy.example", "10.0.0.5/8", "10.0.0.5;10.0.0.6"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    """With a sentence: uvicorn would trust everybody, or nobody."""
    with pytest.raises(ValidationError, match="must be IP addresses or networks"):
        chosen(wrong)
    assert chosen(" 10.0.0.5, ::1").web_trusted_proxies == "10.0.0.5,::1"
