"""The gateway decides whose a topic is by the access lists, and waits where it cannot."""

import time
from datetime import UTC, datetime

import pytest

from ingest.gateway import MOST_UNPROMISED, Gateway
from ingest.mqtt.owners import Owners
from ingest.mqtt.packets import Publish
from ingest.mqtt.record import record_of
from tasks import telemetry
from tasks.domain.access import NoOwner
from tasks.settings import Settings
from tests.unit.tasks.domain.unowned import DOMAIN, TOPIC

SERVED = (telemetry.DOMAIN, DOMAIN)
OTHER = "tele/attic/SENSOR"
ADA = ("ada/cellar", "ada", "allow", TOPIC)


def owners() -> Owners:
    """Its thread does not run: the test reads for it."""
    return Owners(Settings(), SERVED)


def test_without_any_list_nothing_is_decided() -> None:
    """Topics that name their owner do not concern the lists."""
    waiting = owners()
    assert waiting.concern(TOPIC)
    assert not waiting.is_decided(TOPIC)
    assert not waiting.concern("nobody/knows")
    assert waiting.of("users/ada/devices/d/telemetry") == ""


def test_a_topic_without_an_owner_waits_for_one_more_look() -> None:
    """The right may have been given a moment ago; after that look the answer counts."""
    asked = owners()
    asked._take([], time.monotonic())
    assert not asked.is_decided(TOPIC)
    asked._take([], time.monotonic())
    assert asked.is_decided(TOPIC)
    assert isinstance(asked.of(TOPIC), NoOwner)
    assert not asked.is_decided(OTHER)
    asked._take([ADA], time.monotonic())
    assert asked.is_decided(TOPIC)
    assert asked.of(TOPIC) == "ada"


def test_a_look_that_began_before_does_not_count() -> None:
    """It may not have seen the right."""
    asked = owners()
    before = time.monotonic()
    asked._take([], before)
    assert not asked.is_decided(TOPIC)
    asked._take([], before)
    assert not asked.is_decided(TOPIC)


def test_a_topic_of_several_accounts_does_not_wait() -> None:
    """A right that is as young as the message would not make one owner of two."""
    asked = owners()
    asked._take([ADA, ("bob/cellar", "bob", "allow", TOPIC)], time.monotonic())
    assert asked.is_decided(TOPIC)
    assert isinstance(asked.of(TOPIC), NoOwner)


def test_while_the_database_is_away_the_last_list_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owners keep their readings, and what has no owner by it waits for a look, but not for long."""
    away = owners()
    away._take([ADA], time.monotonic())
    assert away.is_decided(TOPIC)
    assert away.of(TOPIC) == "ada"
    assert not away.is_decided(OTHER)
    monkeypatch.setattr("ingest.mqtt.owners.PATIENCE_SECONDS", 0.0)
    assert away.is_decided(OTHER)


def test_an_unchanged_list_is_not_built_again() -> None:
    """It may have a hundred thousand rights, and is read again and again."""
    asked = owners()
    asked._take([ADA], 1.0)
    known = asked._list
    asked._take([ADA], 2.0)
    assert asked._list is known
    asked._take([], 3.0)
    assert asked._list is not known


def test_the_record_has_the_owner_in_its_key_and_a_header() -> None:
    """So a worker, and a replay, decide as the gateway did; without an owner it is a dead letter."""

    def made(owner: str | NoOwner) -> tuple[str, bytes, object]:
        now = datetime.now(UTC)
        record = record_of(SERVED, TOPIC, b"{}", "", now, Settings(), owner=owner)
        return record.topic, record.key, dict(record.headers).get("owner")

    assert made("ada") == ("iot-stream-states", b"ada/states/cellar", b"ada")
    topic, key, header = made(NoOwner("no account", 0))
    assert (topic, header) == ("iot-stream-dlq-states", None)
    assert key.startswith(b"mqtt/")


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> tuple[Gateway, list[tuple[str, int]]]:
    """A gateway without servers, and what it produces: topic and packet id."""
    made = Gateway(Settings(kafka_bootstrap_servers="127.0.0.1:1"), SERVED)
    produced: list[tuple[str, int]] = []
    monkeypatch.setattr(made, "_produce", lambda message, _: produced.append((message.topic, message.mid)))
    return made, produced


def take(gateway: Gateway, topic: str, mid: int, qos: int = 1) -> None:
    """A message arrives."""
    message = Publish(topic, b"{}", qos, mid, dup=False, retain=False)
    gateway._take(message, gateway._session.unacknowledged)


def release(gateway: Gateway) -> None:
    """The part of a turn that lets go of messages."""
    assert gateway._held is not None
    gateway._held.release(gateway._produce)


def test_messages_wait_in_their_order_and_are_not_acknowledged(
    gateway: tuple[Gateway, list[tuple[str, int]]],
) -> None:
    """Until the lists are read; those of other domains go on, and each keeps its place for its PUBACK."""
    door, produced = gateway
    assert door._owners is not None
    take(door, TOPIC, 1)
    take(door, "users/ada/devices/d/telemetry", 2)
    take(door, OTHER, 3)
    take(door, TOPIC, 4)
    release(door)
    assert produced == [("users/ada/devices/d/telemetry", 2)]
    assert len(door._session.unacknowledged) == 4
    door._owners._take([ADA], time.monotonic())
    release(door)
    assert produced[1:] == [(TOPIC, 1), (OTHER, 3), (TOPIC, 4)]


def test_one_look_decides_about_all_that_wait(gateway: tuple[Gateway, list[tuple[str, int]]]) -> None:
    """Topics that nobody owns hold up those of others for one look, however many they are."""
    door, produced = gateway
    assert door._owners is not None
    door._owners._take([ADA], time.monotonic())
    for mid in range(1, 50):
        take(door, f"tele/nobody-{mid}/SENSOR", mid)
    take(door, TOPIC, 50)
    release(door)
    assert produced == []
    door._owners._take([ADA], time.monotonic())
    release(door)
    assert [mid for _, mid in produced] == list(range(1, 51))


def test_what_the_broker_sends_again_waits_once(gateway: tuple[Gateway, list[tuple[str, int]]]) -> None:
    """A held message goes with its connection, however often that ends, so memory stays bounded."""
    door, produced = gateway
    assert door._owners is not None
    assert door._held is not None
    for _ in range(3):
        take(door, TOPIC, 1)
        door._session.unacknowledged.connection_ended()
        release(door)
        assert len(door._held) == 0
    take(door, TOPIC, 1)
    door._owners._take([ADA], time.monotonic())
    release(door)
    assert produced == [(TOPIC, 1)]


def test_held_messages_of_qos_0_are_bounded(gateway: tuple[Gateway, list[tuple[str, int]]]) -> None:
    """Those beyond the limit are dropped and counted, as while Kafka is away."""
    door, _ = gateway
    for _ in range(MOST_UNPROMISED + 10):
        take(door, TOPIC, 0, qos=0)
    assert door._held is not None
    assert len(door._held) <= MOST_UNPROMISED
    assert door._dropped >= 10


def test_held_messages_of_qos_1_drop_none_of_qos_0(gateway: tuple[Gateway, list[tuple[str, int]]]) -> None:
    """They are bounded by the broker, and are not a reason to drop those of other domains."""
    door, produced = gateway
    for mid in range(1, MOST_UNPROMISED + 10):
        take(door, TOPIC, mid)
    take(door, "users/ada/devices/d/telemetry", 0, qos=0)
    assert produced == [("users/ada/devices/d/telemetry", 0)]
    assert door._dropped == 0


def test_the_gateway_is_not_ready_before_the_first_list() -> None:
    """It says what it waits for."""
    door = Gateway(Settings(kafka_bootstrap_servers="127.0.0.1:1"), SERVED)
    door._lease.acts = door._session.subscribed = True
    assert "access lists" in door._why_not_ready()
