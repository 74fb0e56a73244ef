"""No user has more alerts open than OPEN_ALERTS_PER_USER: the rest are dead letters until there is room."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from compose.local.stack import Stack
from tasks import publish_changes
from tasks.alerts import state_store
from tasks.alerts.alert_room import Rooms
from tasks.alerts.evaluate import evaluate
from tasks.batch.messages import Message
from tasks.dead_letters import about_alerts, sender
from tasks.domain.payload import Limits
from tasks.outbox import deliver, stream, tables
from tasks.rebuild import rebuild_all
from tasks.replay import dead_letters as replay_letters
from tasks.rows.validate import Received
from tasks.rules import machine
from tasks.rules.machine import Changes
from tasks.rules.state import DeviceState
from tasks.servers.redis_client import OPEN_ALERTS, client
from tasks.servers.rules_version import announce_change
from tasks.settings import settings
from tasks.telemetry import DOMAIN
from tests.conftest import DeadLetters
from tests.integration.changes import HOT as RULES
from tests.integration.changes import (
    Database,
    empty_outbox,
    history,
    observation,
    rows,
    tell_users,
    write_tables,
)
from tests.integration.fleet import wait_until
from tests.integration.rule_tables import write
from tests.integration.subscriber import subscriber
from tests.payloads import written

MOST = 3
HOT = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}


@pytest.fixture(autouse=True)
def own_outbox(in_process: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: ARG001 - first
    """An outbox of the test's own, and a small limit."""
    monkeypatch.setenv("OPEN_ALERTS_PER_USER", str(MOST))
    settings.cache_clear()
    with empty_outbox():
        yield


class User:
    """A user with a rule, whose devices are named by letters."""

    def __init__(self, database: Database) -> None:
        self.id = uuid4().hex[:8]
        self.offset = 0
        write(database, self.id, [HOT])
        announce_change()

    def part(self, **temperatures: float) -> list[tuple[str, str]]:
        """A part with a reading of each of these devices; device and status of what that changes."""
        return [
            (change.device_id, change.status)
            for change in evaluate(DOMAIN, [self.reading(*one) for one in temperatures.items()]).changes
        ]

    def reading(self, device: str, temperature: float) -> Received:
        """The next record."""
        self.offset += 1
        topic, now_ms = f"users/{self.id}/devices/{device}/telemetry", time.time_ns() // 1_000_000
        payload = written({"sequence_id": self.offset, "temperature": temperature})
        message = Message(0, self.offset, now_ms, topic, "", 0, payload)
        return Received(message, DOMAIN.validate(topic, payload, now_ms, Limits()))

    @property
    def open(self) -> int:
        """How many alerts Redis counts as open."""
        count: Any = client().hget(OPEN_ALERTS, self.id)
        return int(count or 0)


def triggered(names: str) -> list[tuple[str, str]]:
    """That these devices have an alert."""
    return [(name, "TRIGGERED") for name in names]


def write_all() -> None:
    """Writes the tables and sends the dead letters, again where a server was slow."""
    deliver.await_written(60)


def letters_of(dead_letters: DeadLetters, user: User, count: int) -> list[dict[str, Any]]:
    """So many dead letters of the user's alerts; one that had to be sent twice is recognisable as one."""
    found: dict[bytes, dict[str, Any]] = {}

    def read() -> bool:
        topic = f"users/{user.id}/alerts"
        found.update({key: one for key, one in dead_letters.read() if one["original_topic"] == topic})
        return len(found) >= count

    wait_until(read, 60, f"{count} dead letters")
    assert len(found) == count
    return list(found.values())


def test_alerts_beyond_the_limit(stack: Stack, database: Database, dead_letters: DeadLetters) -> None:
    """Each is one dead letter, and no notice; the others, and other users, are notified as ever."""
    greedy, other = User(database), User(database)
    with subscriber(stack, greedy.id) as listening:
        assert greedy.part(a=90, b=90) == triggered("ab")
        assert greedy.part(c=90, d=90, e=90) == [("c", "TRIGGERED"), ("d", "REFUSED"), ("e", "REFUSED")]
        assert greedy.part(d=91, e=20) == []
        assert other.part(a=90, b=90, c=90) == triggered("abc")
        tell_users()
        write_all()
        assert listening.told(MOST) == history(database, greedy.id) == triggered("abc")
        assert history(database, other.id) == triggered("abc")
        present = [(device, status) for device, status, *_ in rows(database, greedy.id)]
        assert present == [*triggered("abc"), ("d", "PENDING")]
        letters = letters_of(dead_letters, greedy, 2)
        assert [letter["error_type"] for letter in letters] == ["TooManyAlerts"] * 2
        assert "3 open alerts, the maximum (OPEN_ALERTS_PER_USER)" in letters[0]["error"]
        letters_of(dead_letters, other, 0)
        # A resolved alert always passes, and makes room for rules still violated.
        assert greedy.part(a=20) == [("a", "RESOLVED")]
        assert greedy.part(d=92, e=90) == [("d", "TRIGGERED"), ("e", "REFUSED")]
        tell_users()
        assert listening.told(5)[3:] == [("a", "RESOLVED"), ("d", "TRIGGERED")]
    write_all()
    assert greedy.open == MOST


def test_a_refused_alert_is_not_replayed(database: Database, dead_letters: DeadLetters) -> None:
    """It triggers by itself; the letter names the alert and its device."""
    user = User(database)
    user.part(a=90, b=90, c=90, d=90)
    write_all()
    (letter,) = letters_of(dead_letters, user, 1)
    report = replay_letters.apply(kwargs={"device": "d", "user": user.id}, task_id=uuid4().hex).get()
    assert (report["replayed"], report["no_coordinates"]) == (0, 1)
    assert letter["original_topic"] == f"users/{user.id}/alerts"


@pytest.mark.parametrize("loss", ["flush", "rebuild", "an earlier version"])
def test_the_count_is_exact_after_a_loss(database: Database, loss: str) -> None:
    """It comes from the tables with the states, also where the states are those of an earlier version."""
    user = User(database)
    user.part(a=90, b=90, c=90, d=90)
    write_all()
    if loss == "flush":
        client().flushall()
    elif loss == "rebuild":
        rebuild_all()
    else:
        client().delete(OPEN_ALERTS)
        generation: Any = client().get("sluice:alerts:generation")
        client().set("sluice:alerts:generation", generation.removesuffix(b"/open"))
    assert user.part(e=90) == [("e", "REFUSED")]
    assert user.part(d=91) == []
    assert user.open == MOST
    assert user.part(a=20, b=20, c=20) == [(name, "RESOLVED") for name in "abc"]
    assert user.open == 0
    assert not client().hexists(OPEN_ALERTS, user.id)
    assert user.part(d=91, e=91) == triggered("de")


def test_a_worker_that_comes_second_sees_what_the_first_has_opened(database: Database) -> None:
    """It decides again, though it was far from the limit when it began."""
    user, rooms = User(database), Rooms()
    first: list[Any] = []

    def decide(state: DeviceState) -> tuple[DeviceState, Changes]:
        if not first:
            first.append(user.part(a=90, b=90))
        return machine.step(state, RULES, observation((1, 90.0)), rooms.left(user.id))

    changes = state_store.transact([(user.id, "d"), (user.id, "e")], decide, rooms=rooms)
    assert [change.status for change in changes] == ["TRIGGERED", "REFUSED"]
    assert user.open == MOST


def test_a_refused_alert_waits_for_kafka(
    database: Database, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its dead letter is confirmed, that user's changes stay in the outbox; others' do not."""
    user, other = User(database), User(database)
    user.part(a=90, b=90, c=90, d=90)
    other.part(a=90)

    sender.close()
    with monkeypatch.context() as impatient:
        # Else Kafka may confirm before it is asked whether it has.
        impatient.setattr(sender, "LINGER_MS", 20_000)
        impatient.setattr(about_alerts, "CONFIRM_SECONDS", 0)
        write_tables()
    assert history(database, other.id) == triggered("a")
    assert stream.awaited({user.id, other.id}) == {user.id: 4}
    write_all()
    assert stream.awaited({user.id}) == {}
    assert history(database, user.id) == triggered("abc")
    (letter,) = letters_of(dead_letters, user, 1)
    assert json.loads(base64.b64decode(letter["payload_base64"]))["device_id"] == "d"


def test_a_database_that_is_away_multiplies_no_dead_letter(
    database: Database, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is tried, the letter is sent when the rest is written."""
    monkeypatch.setattr(tables, "STATEMENT_SECONDS", 1)
    user = User(database)
    user.part(a=90, b=90, c=90, d=90)
    with database.transaction():
        database.execute("LOCK TABLE alert_history")
        for _ in range(3):
            publish_changes.deliver_database()
    letters_of(dead_letters, user, 0)
    write_all()
    letters_of(dead_letters, user, 1)
