"""An attempt: which schemes a channel may have, what is shown of it, its key, and its pauses."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote
from uuid import uuid4

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tasks.channels import attempt, pump, retries, tables
from tasks.channels.outcome import Later, Never
from tasks.rules.model import prose
from tasks.servers import database
from tests.unit.tasks.channels.claims import SECRET, claim

NOW = datetime(2026, 5, 1, 10, tzinfo=UTC)


def is_prose(text: str) -> bool:
    """Whether a rule may have it."""
    try:
        prose(text)
    except ValueError:
        return False
    return True


def test_the_key_of_each_rise_of_an_alert_is_its_own() -> None:
    """An alert has TRIGGERED once, and ESCALATED once for each severity."""
    one = claim()
    assert one.key == "a1/TRIGGERED"
    assert replace(one, notice={**(one.notice or {}), "status": "ESCALATED"}).key == "a1/ESCALATED/warning"


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


def test_schemes_come_from_the_operators_list() -> None:
    """No file, no plain HTTP, and none of Apprise's that reach this machine."""
    for target in ("file:///etc/passwd", "http://example.com/", "json://example.com/", "syslog://"):
        outcome = attempt.attempt(claim("webhook", target))
        assert isinstance(outcome, Never)
        assert "CHANNEL_SCHEMES" in outcome.why


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
