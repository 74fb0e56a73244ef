"""Apprise's services: which targets are taken, and within which bounds one is asked."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tasks.channels import attempt, chat, guard, sessions
from tasks.channels.outcome import Never
from tests.unit.tasks.channels.claims import claim


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
    """A target that is ambiguous, asks for too many requests, or is not a service."""
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


def test_apprise_cannot_reach_the_operators_networks() -> None:
    """Its services are guarded like webhooks."""
    outcome = attempt.attempt(claim("apprise", "ntfys://127.0.0.1:9/topic"))
    assert isinstance(outcome, Never)
    assert "CHANNEL_ALLOWED_NETWORKS" in outcome.why
