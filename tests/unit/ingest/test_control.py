"""The control process without a server: the owner of a topic, refused requests, overdue requests."""

import json
import time
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from ingest import control as module
from ingest.control import RECEIVE_MAXIMUM, Control, too_large
from ingest.mqtt.packets import Publish
from ingest.requests.queue import MAX_WAIT_SECONDS, Request
from ingest.requests.topics import may_answer, parse_topic, status_topic
from tasks.rules.answers import Kind
from tasks.rules.commands import MAX_COMMAND_BYTES
from tasks.rules.parsing import MAX_DOCUMENT_BYTES
from tasks.rules.queries import MAX_QUERY_BYTES
from tasks.settings import Settings


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("config", "config/status"),
        ("alerts/manage", "alerts/manage/status"),
        ("rules/get", "rules"),
        ("alerts/get", "alerts/open"),
    ],
)
def test_a_topic_names_what_is_asked_for_and_the_user(asked: str, answered: str) -> None:
    """The answer goes to the same user, on the topic that belongs to the one that was asked on."""
    parsed = parse_topic(f"users/Åsa 7/{asked}")
    assert parsed is not None
    assert status_topic(*parsed) == f"users/Åsa 7/{answered}"


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
    """A document that does not parse is recognised, and never an error."""
    assert parse_topic(topic) is None


def test_only_what_is_too_large_is_refused_before_a_worker_sees_it() -> None:
    """The limits are those of the documents themselves; the answer says limit and size."""
    assert too_large("config", b"x" * MAX_DOCUMENT_BYTES) is None
    assert too_large("manage", b"x" * MAX_COMMAND_BYTES) is None
    assert too_large("alerts", b"x" * MAX_QUERY_BYTES) is None
    limits: dict[Kind, int] = {
        "config": MAX_DOCUMENT_BYTES,
        "manage": MAX_COMMAND_BYTES,
        "rules": MAX_QUERY_BYTES,
        "alerts": MAX_QUERY_BYTES,
    }
    for kind, limit in limits.items():
        answer = too_large(kind, b"x" * (limit + 1))
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
        self.published: list[tuple[str, bytes, str]] = []
        self.acknowledged: list[int] = []
        session = self.control._session
        monkeypatch.setattr(session, "publish", self._publish)
        monkeypatch.setattr(session.unacknowledged, "_acknowledge", self.acknowledged.extend)

    def take(
        self, payload: bytes, qos: int, mid: int, topic: str = "users/u/config", properties: bytes = b""
    ) -> None:
        """A message comes."""
        message = Publish(topic, payload, qos, mid, dup=False, retain=False, properties=properties)
        self.control._take(message, self.control._session.unacknowledged)

    def _publish(self, topic: str, payload: bytes, *, correlation: bytes = b"", otherwise: str = "") -> Any:
        self.answers.append(json.loads(payload))
        self.published.append((topic, correlation, otherwise))

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


def properties(topic: str, correlation: bytes = b"7") -> bytes:
    """MQTT 5's wish where and how to be answered."""
    name = topic.encode(errors="surrogateescape")
    return b"\x08" + len(name).to_bytes(2) + name + b"\x09" + len(correlation).to_bytes(2) + correlation


def test_a_query_is_answered_where_its_sender_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the correlation data and the query's id; on the usual topic if the broker refuses the other."""
    heard = Heard(monkeypatch)
    monkeypatch.setattr(heard.control._requests, "put", lambda _request: False)
    heard.take(b'{"id": "q1"}', 1, 1, "users/u/rules/get", properties("users/u/responses/me"))
    heard.take(b"", 1, 2, "users/u/alerts/get", properties("users/other/responses/me"))
    heard.take(b"[]", 1, 3, "users/u/config", properties("users/u/responses/me"))
    assert heard.published == [
        ("users/u/responses/me", b"7", "users/u/rules"),
        ("users/u/alerts/open", b"7", ""),
        ("users/u/config/status", b"", ""),
    ]
    first, second, third = heard.answers
    assert first["id"] == "q1"
    assert len(second["id"]) == 32
    assert "id" not in third
    assert first["errors"][0]["path"] == second["errors"][0]["path"] == "query"


@pytest.mark.parametrize("rest", ["responses/a", "replies", "rules", "alerts/open", "rules/answers/7", "x/"])
def test_answers_may_go_to_topics_of_the_user(rest: str) -> None:
    """To any that has no other meaning."""
    assert may_answer("Åsa 7", f"users/Åsa 7/{rest}")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "users/u",
        "users/u/",
        "users/u2/responses/a",
        "users//responses/a",
        "responses/a",
        "$share/g/users/u/responses/a",
        "users/u/responses/+",
        "users/u/#",
        "users/u/responses/\0",
        "users/u/responses/\udcff",
        "users/u/" + "x" * 2000,
        "users/u/config",
        "users/u/config/status",
        "users/u/alerts",
        "users/u/alerts/manage",
        "users/u/alerts/manage/status",
        "users/u/rules/get",
        "users/u/alerts/get",
        "users/u/devices/d/telemetry",
        "users/u/devices/d/rejected",
        "users/u/devices/anything",
    ],
)
def test_answers_go_to_no_topic_that_means_something_else(topic: str) -> None:
    """Not to another user, not as a request, which would answer itself, and not as a reading or an alert."""
    assert not may_answer("u", topic)


def test_a_broker_that_knows_no_queries_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules and commands are taken meanwhile; without the right to hear those the process ends."""
    session = Heard(monkeypatch).control._session
    subscribed: list[int] = []
    monkeypatch.setattr(session._client, "subscribe", lambda topics: subscribed.append(len(topics)))
    granted, denied = (ReasonCode(PacketTypes.SUBACK, identifier=code) for code in (1, 0x87))
    session._on_subscribe(session._client, None, 1, [granted, granted, denied, denied], None)
    assert (session.subscribed, session.failure) == (True, None)
    session.ask_again()
    assert subscribed == []
    session._again_at = time.monotonic()
    session.ask_again()
    session.ask_again()
    assert subscribed == [4]
    session._on_subscribe(session._client, None, 2, [granted, denied, granted, granted], None)
    assert session.failure is not None
    assert "users/+/alerts/manage" in session.failure


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
    control._lease.acts = control._session.subscribed = True
    requests = control._requests
    assert (control._why_not_ready(), control._overdue()) == ("", "")
    requests._oldest_since = time.monotonic() - 75
    assert control._why_not_ready() == ""
    assert control._overdue() == "a request has waited 75 s for its answer"
    requests._unheard_since = time.monotonic() - 75
    overdue = "a request has waited 75 s for its answer"
    assert control._why_not_ready() == f"{overdue}, and no request has been answered for 75 s"
