"""What is sent to a channel, what an answer means, and when it is tried again."""

import re
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest
import requests
import structlog
from hypothesis import given
from hypothesis import strategies as st

from compose.local.layout import PROJECT
from tasks.channels import attempt, chat, guard, mail, pump, retries, sessions, tables, webhook
from tasks.channels.claim import Claim
from tasks.channels.outcome import Later, Never, Sent
from tasks.rules.model import prose
from tasks.servers import database
from tasks.settings import settings

NOW = datetime(2026, 5, 1, 10, tzinfo=UTC)
SECRET = "0123456789abcdef"  # noqa: S105 - of this test alone


def is_prose(text: str) -> bool:
    """Whether a rule may have it."""
    try:
        prose(text)
    except ValueError:
        return False
    return True


@contextmanager
def settings_of(**values: str) -> Iterator[None]:
    """The settings of this process, for as long as the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        settings.cache_clear()
        try:
            yield
        finally:
            settings.cache_clear()


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


@given(st.text(min_size=1, max_size=64).filter(is_prose))
def test_the_key_of_any_severity_fits_a_header(severity: str) -> None:
    """A rule names its severities in any script: the key is ASCII without spaces, and differs as they do."""
    notice = {"alert_id": "a1", "status": "ESCALATED", "severity": severity}
    key = replace(claim(), notice=notice).key
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert unquote(key.removeprefix("a1/ESCALATED/")) == severity


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
    """The end of an IPv6 address is no port."""
    went: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *_: object, **__: object) -> None:
        went.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(ConnectionRefusedError):
        webhook.send(claim(target=url))
    assert went == [(host, port)]


@pytest.mark.parametrize(
    "target",
    [
        "slack://a/b/c?template=/etc/passwd",
        "workflows://x?verify=no",
        "ntfys://host/t?attach=file:///etc/passwd",
        "workflows://host:443/wf/sig/#x?template=/etc/hostname",
        "ntfys://host/t#?verify=no",
        "ntfys://host/t?+attach=/etc/hostname",
        "ntfys://host/t?%61ttach=/etc/hostname",
    ],
)
def test_options_that_read_files_or_trust_anybody_are_refused(target: str) -> None:
    """Before Apprise sees them."""
    assert "is not supported" in chat.problem(target)
    assert isinstance(attempt.attempt(claim("apprise", target)), Never)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("workflows://host:443/wf/sig/?to=a;template=/etc/hostname;verify=no", "%3B"),
        ("zulip://bot@org/" + "a" * 32 + "/" + "/".join(f"stream{n}" for n in range(11)), "11 targets"),
        ("nothing://", "does not understand"),
    ],
)
def test_a_target_of_apprise_that_could_not_work_is_refused(target: str, said: str) -> None:
    """What would be read in two ways, ask for too many requests, or is no service."""
    assert said in chat.problem(target)


def test_a_service_of_apprise_stays_within_the_time_of_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many targets it has, it does not sleep, and asks no further when the time is over."""
    target = "zulip://bot@org/" + "a" * 32 + "/one/two/three"
    asked: list[str] = []

    def post(url: str, **_: Any) -> Any:
        asked.append(url)
        time.sleep(0.15)
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "post", post)
    assert chat.problem(target) == ""
    began = time.monotonic()
    with guard.guarded(0.1, None), pytest.raises(TimeoutError):
        chat.send(claim("apprise", target))
    assert len(asked) == 1
    assert time.monotonic() - began < 4


def test_a_channel_of_slack_may_be_named_as_apprise_documents_it() -> None:
    """By a # in the path."""
    assert chat.problem("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general") == ""


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("apprise", "mailto://user:pw@other.example"),
        ("apprise", "https://discord.com/api/webhooks/123456/abcdef"),
        ("apprise", "http://example.com/"),
        ("webhook", "slack://a/b/c"),
        ("webhook", "mailto://a@b.example"),
    ],
)
def test_a_scheme_of_the_list_is_of_one_kind(kind: str, target: str) -> None:
    """Apprise takes no mail server of the user's, and no service by the URL of its page."""
    assert "is not allowed" in attempt.scheme_problem(kind, target)


def test_each_kind_has_schemes_of_its_own() -> None:
    """Those of the operator's list, and no others."""
    for kind, target in (
        ("webhook", "https://e.example/"),
        ("mail", "a@b.example"),
        ("apprise", "slack://a"),
    ):
        assert attempt.scheme_problem(kind, target) == ""


def test_what_killed_its_worker_each_time_is_given_up() -> None:
    """Before it is tried once more: the attempts that nobody could mark were counted."""
    outcome = attempt.attempt(replace(claim(target="https://127.0.0.1:9/"), attempts=16))
    assert isinstance(outcome, Never)
    assert "CHANNEL_ATTEMPTS" in outcome.why


@contextmanager
def server(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server of one request; its port and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError), listening.accept()[0] as connection:
                asked.append(connection.recv(65536))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], asked
        thread.join()


def test_apprise_goes_straight_to_its_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not by a proxy of the environment, whose address alone could be judged; with no login of a file."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    sessions.install()
    with server(b"HTTP/1.0 200 OK\r\n\r\nwell") as (port, asked), guard.guarded(5, None):
        assert requests.post(f"http://127.0.0.1:{port}/", timeout=5).text == "well"
    assert b"Authorization" not in asked[0]


def test_an_answer_to_apprise_is_bounded() -> None:
    """A server that never ends takes no memory."""
    sessions.install()
    answer = b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (3 * sessions.MOST_BYTES)
    with server(answer) as (port, _), guard.guarded(5, None), pytest.raises(OSError, match="too long"):
        requests.get(f"http://127.0.0.1:{port}/", timeout=5)


class Mailbox:
    """A connection to a mail server that answers a mail as told; how it ends is told, too."""

    def __init__(self, error: Exception | None, goodbye: Exception | None) -> None:
        self.error, self.goodbye = error, goodbye

    def send_message(self, _mail: Any) -> None:
        """Takes it, or not."""
        if self.error:
            raise self.error

    def quit(self) -> None:
        """Says goodbye."""
        if self.goodbye:
            raise self.goodbye

    def close(self) -> None:
        """Ends."""


@pytest.mark.parametrize(
    ("error", "target", "outcome"),
    [
        (None, "ada@example.com", Sent()),
        (
            smtplib.SMTPSenderRefused(553, b"no", "a@b.example"),
            "ada@example.com",
            Later("the mail server refused the sender (553)"),
        ),
        (
            smtplib.SMTPRecipientsRefused({"a": (550, b"no")}),
            "ada@example.com",
            Never("the mail server refused the address (550)"),
        ),
        (
            smtplib.SMTPNotSupportedError(),
            "ädä@example.com",
            Never("the mail server takes no address that is not ASCII"),
        ),
    ],
)
@pytest.mark.parametrize("goodbye", [None, smtplib.SMTPResponseException(421, b"bye"), TimeoutError()])
def test_what_a_mail_server_says(
    error: Exception | None,
    target: str,
    outcome: object,
    goodbye: Exception | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What can be mended is tried again; a goodbye changes nothing of what was said before it."""
    monkeypatch.setattr(mail, "_connect", lambda *_: Mailbox(error, goodbye))
    with settings_of(SMTP_HOST="mail.example", SMTP_FROM="a@b.example", SMTP_SECURITY="none"):
        assert attempt.attempt(claim("mail", target)) == outcome


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


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("webhook", "https://user:t0ken@127.0.0.1:9/t0ken?t0ken=t0ken#t0ken"),
        ("webhook", "https://t0ken.invalid:99999/"),
        ("webhook", "t0ken://t0ken"),
        ("apprise", "ntfys://t0ken:t0ken@127.0.0.1:9/t0ken"),
        ("apprise", "slack://t0ken/t0ken;t0ken"),
        ("apprise", "slack://t0ken/t0ken"),
    ],
)
def test_neither_target_nor_secret_is_shown(kind: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the repr of a delivery, in the reason of a failure, nor in the log line of it."""
    one = claim(kind, target)
    assert SECRET not in repr(one)
    assert "t0ken" not in repr(one)
    outcome = attempt.attempt(one)
    assert isinstance(outcome, (Later, Never))
    monkeypatch.setattr(database, "access", lambda: nullcontext(None))
    monkeypatch.setattr(tables, "finish", lambda *_: "failed")
    with structlog.testing.capture_logs() as lines:
        pump._finish(one, outcome, uuid4())
    assert len(lines) == 1
    shown = f"{outcome} {lines}"
    # Only the scheme that somebody made up is repeated.
    assert "t0ken" not in shown.replace("the scheme t0ken is", "")
    assert SECRET not in shown


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
