"""Every request of a user gets an answer, whatever it is and however it comes, and none holds up another."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from ingest.admin.accounts.provision import Credential
from ingest.requests.queue import Request, Requests
from tasks import user_requests
from tasks.rules.answers import Answer
from tasks.servers import mqtt
from tasks.servers.redis_client import alert_key, answers_key, client, request_key
from tasks.settings import settings
from tests.integration.fleet import wait_until
from tests.integration.mqtt_session import connect, had_session, leave
from tests.integration.subscriber import subscriber
from tests.integration.user_program import HOT, User

pytestmark = pytest.mark.usefixtures("on_servers")

Database = psycopg.Connection[tuple[Any, ...]]
COMMAND = {"device_id": "d", "rule_id": "temperature", "action": "DISABLE"}


@pytest.fixture
def users(pipeline: Stack, database: Database) -> Iterator[tuple[User, User]]:
    """Two users who are connected."""
    pair = User(pipeline, database), User(pipeline, database)
    yield pair
    for one in pair:
        one.client.disconnect()
        one.client.loop_stop()


def test_what_is_no_command_holds_up_nobody(users: tuple[User, User], pipeline: Stack) -> None:
    """It is answered, and so are more requests of another user than may be unacknowledged at a time."""
    hostile, other = users
    control = pipeline.pid("control")
    actions: list[Any] = [{}, [], [{}], 1.5, None]
    for action in actions:
        answer = hostile.ask("alerts/manage", {"action": action})
        assert not answer["ok"]
        assert "action" in {error["path"] for error in answer["errors"]}
    for _ in range(260):
        other.client.publish(f"users/{other.id}/alerts/manage", b'{"action": {}}', qos=1)
    wait_until(lambda: len(other.heard) == 260, 60, "260 answers")
    assert pipeline.pid("control") == control


def test_requests_by_qos_0_are_answered(users: tuple[User, User], pipeline: Stack) -> None:
    """They are not acknowledged, which the broker would end the connection for."""
    user, other = users
    disconnects = pipeline.log("control").count("mqtt_disconnected")
    for threshold in range(20):
        document = json.dumps({"rules": [{**HOT, "threshold": threshold}]})
        user.client.publish(f"users/{user.id}/config", document, qos=0)
    wait_until(lambda: len(user.heard) == 20, 60, "20 answers")
    assert all(answer == {"ok": True, "rules": 1} for _, answer in user.heard)
    assert other.ask("config", {"rules": [HOT]})["ok"]
    assert pipeline.log("control").count("mqtt_disconnected") == disconnects


def test_a_user_with_too_many_requests_is_refused_and_alone(
    users: tuple[User, User], database: Database
) -> None:
    """One user's rules are locked: 300 requests wait, further ones are refused, and others are answered."""
    slow, other = users
    with database.transaction():
        database.execute(user_requests.LOCK, [slow.id])
        for threshold in range(320):
            document = json.dumps({"rules": [{**HOT, "threshold": threshold}]})
            slow.client.publish(f"users/{slow.id}/config", document, qos=1)
        wait_until(lambda: len(slow.heard) == 20, 30, "the refusals")
        assert all("too many requests" in answer["errors"][0]["message"] for _, answer in slow.heard)
        for _ in range(5):
            assert other.ask("alerts/manage", {"action": {}}, seconds=30)["ok"] is False
    wait_until(lambda: len(slow.heard) == 320, 90, "all answers")
    assert all(answer["ok"] for _, answer in slow.heard[20:])
    assert slow.rules(database) == [{**HOT, "threshold": 299}]


def test_commands_are_for_devices_that_there_are(users: tuple[User, User], database: Database) -> None:
    """A device that never existed is refused and leaves nothing; an account, a row or a reading makes one."""
    user, other = users
    assert user.ask("config", {"rules": [HOT]})["ok"]
    provision.provision(database, accounts.device(other.id, "d"))
    for action in ("DISABLE", "ENABLE", "SNOOZE"):
        command = {**COMMAND, "action": action, **({"duration_minutes": 1} if action == "SNOOZE" else {})}
        answer = user.ask("alerts/manage", command)
        assert [error["path"] for error in answer["errors"]] == ["device_id"]
        assert "no such device" in answer["errors"][0]["message"]
    assert not client().exists(alert_key(user.id, "d"))
    provision.provision(database, accounts.device(user.id, "d"))
    database.execute("INSERT INTO raw_telemetry VALUES (now(), %s, 'rows', 1, 20, 50, '{}')", [user.id])
    assert user.ask("alerts/manage", COMMAND) == {"ok": True}
    assert user.ask("alerts/manage", {**COMMAND, "device_id": "rows"}) == {"ok": True}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("kind", ["config", "manage"])
def test_a_bug_is_answered_with_the_id_that_the_log_has(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the request ends: it would meet the bug each time."""

    def bug(*_: object, **__: object) -> Answer:
        raise ZeroDivisionError

    monkeypatch.setattr(user_requests, "_set_rules", bug)
    monkeypatch.setattr(user_requests, "_manage", bug)
    request, control = uuid4().hex, uuid4().hex[:8]
    client().set(request_key(request), 1, ex=60)
    with capture_logs() as logs:
        if kind == "config":
            user_requests.set_rules("u", b"[]", request, control)
        else:
            user_requests.manage_alert("u", b"{}", request, control, 1)
    (reported,) = client().lrange(answers_key(control), 0, -1)
    (error,) = json.loads(reported)["answer"]["errors"]
    assert error["message"].startswith("internal error")
    assert request in error["message"]
    assert [line["id"] for line in logs if line["event"] == "request_failed"] == [request]
    assert not client().exists(request_key(request))


@pytest.mark.usefixtures("alone")
def test_a_request_that_nobody_does_is_given_up() -> None:
    """Without a worker the user gets an answer in bounded time, and a given-up request is not done later."""
    answered: list[tuple[Request, Answer | None]] = []
    requests = Requests(lambda *one: answered.append(one), patience_seconds=2, most=3)
    requests.start()
    for number in range(5):
        request = Request("config", "u", b"[%d]" % number, number, again=False, retained=False)
        assert requests.put(request) == (number < 3)
    assert requests.put(Request("config", "other", b"[]", 9, again=False, retained=False))
    wait_until(lambda: requests.run_once(0.1) or len(answered) == 4, 30, "the answers")  # type: ignore[func-returns-value]
    requests.close()
    assert len(requests) == requests.oldest_seconds() == 0
    for request, answer in answered:
        assert answer is not None
        assert "not done within 2 s" in (answer.get("errors") or [{}])[0]["message"]
        assert not client().exists(request_key(request.id))


def test_what_waits_in_the_session_of_an_earlier_version_is_answered(pipeline: Stack) -> None:
    """Its client id was the bare name: it is emptied at the first start, and ended."""
    name = settings().mqtt_control_client_id
    login = Credential(pipeline.env["MQTT_USERNAME"], pipeline.env["MQTT_PASSWORD"])
    pipeline.stop("control")
    leave(connect(pipeline, login, mqtt.session_id(settings(), name), clean=True))
    old = connect(pipeline, login, name, clean=True, keep=True)
    subscribed: list[int] = []
    old.on_subscribe = lambda *_: subscribed.append(1)
    old.subscribe("users/+/config", qos=1)
    wait_until(lambda: bool(subscribed), 10, "the subscription")
    leave(old)
    before = pipeline.log("control").count("old_session_emptied")
    with subscriber(pipeline, uuid4().hex[:8]) as user:
        user.publish("config", {"rules": [HOT]})
        pipeline.start("control")
        wait_until(lambda: bool(user.answers), 60, "the answer")
        assert user.answers == [("config/status", {"ok": True, "rules": 1})]
    wait_until(
        lambda: pipeline.log("control").count("old_session_emptied") > before,
        60,
        "the old session to be ended",
    )
    again = connect(pipeline, login, name, clean=False)
    assert not had_session(again)
    leave(again)
