"""Webhooks: what is sent and signed, where it goes, and what an answer means."""

import re
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from compose.local.layout import PROJECT
from tasks.channels import retries, webhook
from tasks.channels.outcome import Later, Never, Sent
from tests.unit.tasks.channels.claims import SECRET, claim

NOW = datetime(2026, 5, 1, 10, tzinfo=UTC)


def test_a_signature_is_that_of_the_documentation() -> None:
    """HMAC-SHA256 over the time, a dot and the body: a fixed example, so that it stays."""
    assert webhook.sign("secret", 1700000000, b"{}") == (
        "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
    )


def test_a_body_is_the_notice_and_the_text_of_a_template() -> None:
    """As JSON, whatever the template says."""
    assert webhook.body(claim()).startswith(b'{"alert_id":"a1",')
    assert webhook.body(claim(template='"$message')).endswith(b'"text":"\\"hot\\nhot"}')


@pytest.mark.parametrize(
    ("status", "kind"), [(200, Sent), (204, Sent), (301, Never), (308, Never), (400, Never)]
)
@pytest.mark.parametrize("header", [None, "5", "soon"])
def test_answers_that_end_a_delivery(status: int, kind: type, header: str | None) -> None:
    """Success, a redirect for ever, which is not followed, and what speaks of the message itself."""
    assert isinstance(webhook.judge(status, header), kind)


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 502, 503, 504, 599])
def test_answers_that_may_change(status: int) -> None:
    """They are tried again: somebody may mend it."""
    assert webhook.judge(status, None) == Later(f"the server answered {status}")


@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_redirect_for_the_moment_is_tried_again(status: int) -> None:
    """Such as to the page that says that the server is maintained; what to do if it stays is said."""
    outcome = webhook.judge(status, None)
    assert isinstance(outcome, Later)
    assert "set the address" in outcome.why


def test_a_server_may_ask_for_a_pause() -> None:
    """By seconds or by a date, an hour at most; nonsense is not a pause."""
    assert webhook.judge(429, "120") == Later("the server answered 429", 120.0)
    assert webhook.judge(503, "999999") == Later("the server answered 503", 3600.0)
    assert webhook.judge(500, "120") == Later("the server answered 500")
    date = (NOW + timedelta(minutes=2)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert retries.asked_seconds(date, NOW) == 120.0
    assert retries.asked_seconds("soon", NOW) is None
    assert retries.asked_seconds(None, NOW) is None


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://[2606:4700::1111]/x", "2606:4700::1111", 443),
        ("http://[2606:4700::1111]/x", "2606:4700::1111", 80),
        ("https://[2606:4700::1111]:8443/x", "2606:4700::1111", 8443),
        ("https://example.com/x", "example.com", 443),
    ],
)
def test_a_webhook_goes_where_its_url_says(
    url: str, host: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of an IPv6 address is not a port."""
    went: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *_: object, **__: object) -> None:
        went.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(ConnectionRefusedError):
        webhook.send(claim(target=url))
    assert went == [(host, port)]


def test_the_receiver_of_the_documentation_verifies_a_webhook() -> None:
    """Its code takes what is signed, and refuses another body, another secret and an old message."""
    page = (PROJECT / "docs" / "channels.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)  # noqa: S102 - our own page
    is_genuine, body, now = names["is_genuine"], webhook.body(claim()), int(time.time())

    def headers(at: int) -> dict[str, str]:
        return {"Sluice-Timestamp": str(at), "Sluice-Signature": f"v1={webhook.sign(SECRET, at, body)}"}

    assert is_genuine(SECRET, headers(now), body)
    assert not is_genuine(SECRET, headers(now), body + b" ")
    assert not is_genuine("another", headers(now), body)
    assert not is_genuine(SECRET, headers(now - 3600), body)
