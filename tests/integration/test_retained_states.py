"""The states of open alerts that the MQTT broker keeps: there for whoever subscribes, gone with the alert."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.reasoncodes import ReasonCode

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from ingest.admin.accounts.provision import Credential
from tasks.outbox import notices, stream
from tasks.outbox.retained import topic
from tasks.rules.change import Change
from tasks.rules.parsing import parse_rules
from tasks.servers.redis_client import client
from tasks.settings import settings
from tests.conftest import PROJECT, DeadLetters
from tests.integration import forked
from tests.integration.changes import Database, empty_outbox, flap, judge, tell_users
from tests.integration.fleet import connect, wait_until
from tests.integration.mqtt_session import await_honoured
from tests.integration.refusals import refused
from tests.integration.subscriber import subscriber

HOT = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}
WORKER = """
import os, signal
from tasks import publish_changes
from tasks.outbox import publisher, stream
from tasks.servers import turns
turns.TURN_SECONDS = 4.0

def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)

"""
AFTER_PUBLISHING = "stream._acknowledge = dies\n"
# The notice is published, and the state is not.
BETWEEN = "publish = publisher.publish\npublisher.publish = lambda some: dies(publish(some[:1]))\n"


@pytest.fixture(autouse=True)
def retained(in_process: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: ARG001 - it comes first
    """An outbox of the test's own, and states that are retained."""
    _choose(monkeypatch, "on")
    with empty_outbox():
        yield
    monkeypatch.undo()
    settings.cache_clear()


def _choose(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    monkeypatch.setenv("RETAINED_ALERT_STATES", choice)
    settings.cache_clear()


@pytest.fixture
def user(stack: Stack, database: Database) -> Credential:
    """A user with an account; the username is the user's id."""
    return _account(stack, database, uuid4().hex[:8])


def _account(stack: Stack, database: Database, name: str) -> Credential:
    made = provision.provision(database, accounts.user(name))
    await_honoured(stack, made)
    return made


def _kept(stack: Stack, user: Credential) -> dict[str, dict[str, Any]]:
    """The messages that a new subscriber gets at once; by topic."""
    found: dict[str, dict[str, Any]] = {}
    heard: list[int] = []

    def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
        assert message.retain
        found[message.topic] = json.loads(message.payload)

    listening = connect(stack, user, f"{user.username}-{uuid4().hex[:8]}")
    listening.on_message = on_message
    listening.on_subscribe = lambda *_: heard.append(1)
    # The answer to the second comes after all that the first has brought.
    for number, name in enumerate(("alerts/state/#", "config/status")):
        listening.subscribe(f"users/{user.username}/{name}", 1)
        wait_until(lambda number=number: len(heard) > number, 10, "the subscription")  # type: ignore[misc]
    listening.disconnect()
    listening.loop_stop()
    return found


def _states(*changes: Change) -> dict[str, Any]:
    """The states that these changes leave."""
    return {topic(one.user_id, one.device_id, one.rule_id): json.loads(one.to_json()) for one in changes}


def _killed(stack: Stack, how: str) -> None:
    """A worker that begins to publish, and is killed."""
    environment = {**os.environ, **process_environment(stack.env)}
    code = f"{WORKER}{how}publish_changes.deliver_mqtt()"
    assert forked.run("-c", code, env=environment, cwd=PROJECT).returncode == -signal.SIGKILL
    wait_until(lambda: not client().exists("sluice:turn:notify:mqtt"), 30, "the turn")


def test_who_subscribes_hears_the_open_alerts_at_once_and_none_that_is_over(
    stack: Stack, user: Credential
) -> None:
    """Whatever a killed worker has published or not, the last change decides; others' names are encoded."""
    (first,) = judge(user.username, "d", (1, 90.0))
    (other,) = judge(user.username, "50% +/ü", (1, 91.0))
    _killed(stack, BETWEEN)
    tell_users()
    assert _kept(stack, user) == _states(first, other)
    judge(user.username, "d", (2, 20.0))
    _killed(stack, AFTER_PUBLISHING)
    assert _kept(stack, user) == _states(other)
    (second,) = judge(user.username, "d", (3, 95.0))
    judge(user.username, "50% +/ü", (2, 20.0))
    _killed(stack, BETWEEN)
    tell_users()
    assert _kept(stack, user) == _states(second)
    flap(user.username, "d", 1, start=3)
    judge(user.username, "d", (40, 20.0))
    tell_users()
    assert _kept(stack, user) == {}
    assert stream.backlog() > 0, "the tables were not written"


def test_only_sluice_publishes_states(stack: Stack, user: Credential) -> None:
    """A user who tries to is refused by the broker."""
    answers: list[ReasonCode] = []
    told = threading.Event()

    def on_publish(
        _client: Client, _data: object, _mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        answers.append(reason)
        told.set()

    own = connect(stack, user)
    own.on_publish = on_publish
    own.publish(topic(user.username, "d", "temperature"), b"{}", qos=1, retain=True)
    assert told.wait(10)
    own.disconnect()
    own.loop_stop()
    assert answers[0].is_failure
    assert _kept(stack, user) == {}


def test_a_state_that_is_refused_ends_and_the_users_notices_go_on(
    stack: Stack, database: Database, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that takes no states holds up the user for some attempts; nothing becomes a dead letter."""
    monkeypatch.setattr(notices, "MOST_PAUSE_SECONDS", 0.0)
    name = uuid4().hex[:8]
    rules = parse_rules({"rules": [HOT | {"id": one} for one in ("a", "b", "c")]})
    with refused(stack, database, topic(name, "d", "b")), subscriber(stack, name) as listening:
        changes = judge(name, "d", (1, 90.0), (2, 20.0), (3, 90.0), rules=rules)
        last = stream.last()
        assert last is not None

        def over() -> bool:
            tell_users()
            return stream.has_delivered("mqtt", last)

        wait_until(over, 60, "the end of the attempts")
        # Changes sent together with a refused state come again, under the same id and status.
        listening.told(9)
        told = dict.fromkeys((notice["alert_id"], notice["status"]) for notice in listening.notices)
        assert list(told) == [(change.alert_id, change.status) for change in changes]
    assert [letter for _, letter in dead_letters.read() if name in letter["original_topic"]] == []
    kept = _kept(stack, _account(stack, database, name))
    assert kept == _states(*(one for one in changes[6:] if one.rule_id != "b"))


def test_what_is_kept_goes_when_the_operator_wants_none(
    stack: Stack, user: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`clear` removes a state with the alert's next change, and `off` publishes none."""
    (first,) = judge(user.username, "d", (1, 90.0))
    tell_users()
    assert _kept(stack, user) == _states(first)
    _choose(monkeypatch, "clear")
    judge(user.username, "d", (2, 20.0))
    judge(user.username, "e", (1, 90.0))
    tell_users()
    assert _kept(stack, user) == {}
    _choose(monkeypatch, "off")
    judge(user.username, "f", (1, 90.0))
    tell_users()
    assert _kept(stack, user) == {}


def test_accounts_that_there_are_get_the_rights(database: Database) -> None:
    """The migration, run twice, on accounts of each kind that lack them: exactly those of a new account."""
    run = f"u{uuid4().hex[:8]}"
    made = [accounts.device(run, "d"), accounts.user(run), accounts.service(f"s{run}")]
    for account in made:
        provision.provision(database, account)
    names = [account.username for account in made]
    rights = "SELECT username, action, topic FROM mqtt_acl WHERE username = ANY(%s)"
    expected = {(account.username, *right) for account in made for right in accounts.acl(account)}
    database.execute("DELETE FROM mqtt_acl WHERE username = ANY(%s) AND topic ~ '/alerts/state/'", [names])
    assert len(database.execute(rights, [names]).fetchall()) == len(expected) - 2
    for _ in range(2):
        database.execute((PROJECT / "sql" / "0032_alert_states_retained.sql").read_bytes())
        assert set(database.execute(rights, [names]).fetchall()) == expected
