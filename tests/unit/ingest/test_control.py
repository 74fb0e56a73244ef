"""What the control process can say without a server: whose topic it is, what is refused, what is overdue."""

import json
import time
from typing import Any

import pytest

from ingest import control as module
from ingest.control import RECEIVE_MAXIMUM, Control, parse_topic, status_topic, too_large
from ingest.mqtt.packets import Publish
from ingest.requests.queue import MAX_WAIT_SECONDS, Request
from tasks.rules.commands import MAX_COMMAND_BYTES
from tasks.rules.parsing import MAX_DOCUMENT_BYTES
from tasks.settings import Settings


@pytest.mark.parametrize("kind", ["config", "alerts/manage"])
def test_a_topic_names_what_is_asked_for_and_the_user(kind: str) -> None:
    """The answer goes to the same user, on the status topic beside the one that was asked on."""
    parsed = parse_topic(f"users/Åsa 7/{kind}")
    assert parsed is not None
    assert status_topic(*parsed) == f"users/Åsa 7/{kind}/status"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "users",
        "users//config",
        "users/a",
        "users/a/b",
        "user/a/config",
        "users/a/config/x",
        "users/ /config",
    ],
)
def test_any_other_topic_names_nothing(topic: str) -> None:
    """What does not parse is told apart, and never an error."""
    assert parse_topic(topic) is None


def test_only_what_is_too_large_is_refused_before_a_worker_sees_it() -> None:
    """The limits are those of the documents themselves; the answer says limit and size."""
    assert too_large("config", b"x" * MAX_DOCUMENT_BYTES) is None
    assert too_large("manage", b"x" * MAX_COMMAND_BYTES) is None
    for kind, limit in (("config", MAX_DOCUMENT_BYTES), ("manage", MAX_COMMAND_BYTES)):
        answer = too_large(kind, b"x" * (limit + 1))  # type: ignore[arg-type]
        assert answer is not None
        assert not answer["ok"]
        assert str(limit + 1) in answer["errors"][0]["message"]


def test_the_wait_for_an_answer_grows_and_is_bounded() -> None:
    """Each attempt waits longer than the one before, up to the longest wait, however many there were."""
    waits = [
        Request("config", "u", b"", 1, again=False, retained=False, attempt=attempt).wait_seconds()
        for attempt in (1, 2, 3, 10, 10_000)
    ]
    assert waits == [5.0, 10.0, 20.0, MAX_WAIT_SECONDS, MAX_WAIT_SECONDS]


class Heard:
    """A control process without servers, and what it publishes and acknowledges."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **chosen: Any) -> None:
        self.control = Control(Settings(**chosen))
        self.answers: list[dict[str, Any]] = []
        self.acknowledged: list[int] = []
        session = self.control._session
        monkeypatch.setattr(session, "publish", self._publish)
        monkeypatch.setattr(session.unacknowledged, "_acknowledge", self.acknowledged.extend)

    def take(self, payload: bytes, qos: int, mid: int, topic: str = "users/u/config") -> None:
        """A message comes."""
        message = Publish(topic, payload, qos, mid, dup=False, retain=False)
        self.control._take(message, self.control._session.unacknowledged)

    def _publish(self, _topic: str, payload: bytes) -> Any:
        self.answers.append(json.loads(payload))

        class Published:
            def is_published(self) -> bool:
                return True

        return Published()


def test_a_message_of_qos_0_is_never_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet id of 0 is none: the broker would end the connection."""
    heard = Heard(monkeypatch, requests_per_user=1)
    for topic in ("users/u/config", "users/u/config", "users/ /config", "nonsense"):
        heard.take(b"[]", 0, 0, topic)
    heard.take(b" " * (MAX_DOCUMENT_BYTES + 1), 0, 0)
    heard.control._done(heard.control._answers.arrived())
    assert heard.acknowledged == []
    assert len(heard.answers) == 2  # of the second, and of the one that is too large
    assert len(heard.control._session.unacknowledged) == 0


def test_requests_of_qos_0_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came while too many waited are dropped and counted; all of QoS 1 are taken."""
    heard = Heard(monkeypatch, requests_per_user=10_000)
    for _ in range(RECEIVE_MAXIMUM + 50):
        heard.take(b"[]", 0, 0)
    assert len(heard.control._requests) == RECEIVE_MAXIMUM
    assert heard.control._dropped == 50
    heard.take(b"[]", 1, 7)
    assert len(heard.control._requests) == RECEIVE_MAXIMUM + 1


def test_a_bug_in_taking_a_message_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an id, and acknowledged: or it would come again for ever, and end the process each time."""
    heard = Heard(monkeypatch)

    def bug(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "too_large", bug)
    heard.take(b"[]", 1, 3)
    heard.control._done(heard.control._answers.arrived())
    assert heard.answers[0]["errors"][0]["message"].startswith("internal error")
    assert heard.acknowledged == [3]


def test_an_overdue_answer_is_reported_by_a_process_that_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not ready only when nothing that was asked for is answered."""
    control = Heard(monkeypatch).control
    control._session.subscribed = True
    requests = control._requests
    assert (control._why_not_ready(), control._overdue()) == ("", "")
    requests._oldest_since = time.monotonic() - 75
    assert control._why_not_ready() == ""
    assert control._overdue() == "a request has waited 75 s for its answer"
    requests._unheard_since = time.monotonic() - 75
    overdue = "a request has waited 75 s for its answer"
    assert control._why_not_ready() == f"{overdue}, and no request has been answered for 75 s"
