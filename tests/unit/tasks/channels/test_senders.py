"""What is sent to a channel, what an answer means, and when it is tried again."""

import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.local.layout import PROJECT
from tasks.channels import attempt, chat, mail, retries, webhook
from tasks.channels.claim import Claim
from tasks.channels.outcome import Later, Never, Sent

NOW = datetime(2026, 5, 1, 10, tzinfo=UTC)
SECRET = "0123456789abcdef"  # noqa: S105 - of this test alone


def claim(kind: str = "webhook", target: str = "https://example.com/", template: str | None = None) -> Claim:
    """A delivery of a change."""
    notice = {
        "alert_id": "a1",
        "status": "TRIGGERED",
        "severity": "warning",
        "device_id": "d",
        "message": "hot\nhot",
    }
    return Claim(1, 2, "u", "n", kind, target, SECRET, template, 1, 0, notice)


def test_a_signature_is_that_of_the_documentation() -> None:
    """HMAC-SHA256 over the time, a dot and the body: a fixed example, so that it stays."""
    assert webhook.sign("secret", 1700000000, b"{}") == (
        "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
    )


def test_the_key_of_each_rise_of_an_alert_is_its_own() -> None:
    """An alert has TRIGGERED once, and ESCALATED once for each severity."""
    one = claim()
    assert one.key == "a1/TRIGGERED"
    assert replace(one, notice={**(one.notice or {}), "status": "ESCALATED"}).key == "a1/ESCALATED/warning"


def test_a_body_is_the_notice_and_the_text_of_a_template() -> None:
    """As JSON, whatever the template says."""
    assert webhook.body(claim()).startswith(b'{"alert_id":"a1",')
    assert webhook.body(claim(template='"$message')).endswith(b'"text":"\\"hot\\nhot"}')


@pytest.mark.parametrize(
    ("status", "kind"), [(200, Sent), (204, Sent), (301, Never), (307, Never), (400, Never)]
)
@pytest.mark.parametrize("header", [None, "5", "soon"])
def test_answers_that_end_a_delivery(status: int, kind: type, header: str | None) -> None:
    """Success, a redirect that is not followed, and what speaks of the message itself."""
    assert isinstance(webhook.judge(status, header), kind)


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 502, 503, 504, 599])
def test_answers_that_may_change(status: int) -> None:
    """They are tried again: somebody may mend it."""
    assert webhook.judge(status, None) == Later(f"the server answered {status}")


def test_a_server_may_ask_for_a_pause() -> None:
    """By seconds or by a date, an hour at most; nonsense is no pause."""
    assert webhook.judge(429, "120") == Later("the server answered 429", 120.0)
    assert webhook.judge(503, "999999") == Later("the server answered 503", 3600.0)
    assert webhook.judge(500, "120") == Later("the server answered 500")
    date = (NOW + timedelta(minutes=2)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert retries.asked_seconds(date, NOW) == 120.0
    assert retries.asked_seconds("soon", NOW) is None
    assert retries.asked_seconds(None, NOW) is None


@given(st.text())
def test_any_header_is_a_bounded_pause_or_none(header: str) -> None:
    """It never fails."""
    asked = retries.asked_seconds(header, NOW)
    assert asked is None or 1 <= asked <= 3600


@given(st.integers(1, 10_000))
def test_pauses_grow_and_end(attempts: int) -> None:
    """From seconds to an hour; a channel rests five minutes at most."""
    assert 1.5 <= retries.retry_seconds(attempts) <= 3600
    assert 0 <= retries.rest_seconds(attempts) <= 300
    assert retries.rest_seconds(2) == 0


def test_a_mail_is_recognised_when_it_comes_again() -> None:
    """By its Message-ID; its subject is one line."""
    composed = mail.compose(claim("mail", "ada@example.com"), "alerts@example.org")
    assert composed["Message-ID"] == "<a1.TRIGGERED.2@example.org>"
    assert composed["Subject"] == "[warning] TRIGGERED d: hot hot"
    assert composed["To"] == "ada@example.com"


@pytest.mark.parametrize(
    "target",
    [
        "slack://a/b/c?template=/etc/passwd",
        "workflows://x?verify=no",
        "ntfys://host/t?attach=file:///etc/passwd",
    ],
)
def test_options_that_read_files_or_trust_anybody_are_refused(target: str) -> None:
    """Before Apprise sees them."""
    assert "is not supported" in chat.problem(target)
    assert isinstance(attempt.attempt(claim("apprise", target)), Never)


def test_schemes_come_from_the_operators_list() -> None:
    """No file, no plain HTTP, and none of Apprise's that reach this machine."""
    for target in ("file:///etc/passwd", "http://example.com/", "json://example.com/", "syslog://"):
        outcome = attempt.attempt(claim("webhook", target))
        assert isinstance(outcome, Never)
        assert "CHANNEL_SCHEMES" in outcome.why


def test_apprise_cannot_reach_the_operators_networks() -> None:
    """Its services are guarded like webhooks."""
    outcome = attempt.attempt(claim("apprise", "ntfys://127.0.0.1:9/topic"))
    assert isinstance(outcome, Never)
    assert "CHANNEL_ALLOWED_NETWORKS" in outcome.why


def test_neither_target_nor_secret_is_shown() -> None:
    """Not in a log line, nor in the reason of a failure."""
    assert SECRET not in repr(claim())
    assert "example.com" not in repr(claim())


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
