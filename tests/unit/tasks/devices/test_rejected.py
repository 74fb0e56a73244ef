"""Notices to devices about refused messages: to whom, what they say, how many, and that none ever fails."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.dead_letters import envelope
from tasks.dead_letters.letter import Letter, parse_letter
from tasks.devices import rejected
from tasks.devices.rejected import MOST_NOTICES, MOST_OF_DEVICE, Notices
from tasks.domain.domain import Source
from tasks.outbox.publisher import Message, MqttBrokerAway
from tasks.telemetry import DOMAIN
from tasks.text.topics import rejected_topic

NOW = datetime.now(UTC)


def letter(device: str = "fridge", **values: Any) -> Letter:
    """The letter of a message of one of ann's devices."""
    given = {"kafka_topic": "iot-stream", "kafka_partition": 3, "kafka_offset": 17, **values}
    value = envelope.envelope(
        f"users/ann/devices/{device}/telemetry", b"{}", "MissingField", "`t` is missing", **given
    )
    return parse_letter(b"iot-stream/3/17", value, 1_780_000_000_123)


def notices(*letters: Letter, now: datetime = NOW) -> Notices:
    """The notices of a run that finds these letters."""
    found = Notices(now)
    for one in letters:
        source = one.source
        assert source is not None
        found.add(DOMAIN, source, one)
    return found


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """The notices published to a broker that takes everything, by workers with an empty Redis."""
    taken: list[Message] = []

    class Redis:
        def __init__(self) -> None:
            self.keys: set[str] = set()

        def exists(self, name: str) -> int:
            return int(name in self.keys)

        def set(self, name: str, _value: int, *, ex: int) -> None:
            assert ex > 0
            self.keys.add(name)

    redis = Redis()

    def publish(messages: list[Message], _seconds: float) -> dict[int, str]:
        taken.extend(messages)
        return {}

    monkeypatch.setattr(rejected, "client", lambda: redis)
    monkeypatch.setattr("tasks.devices.rejected.publisher.publish", publish)
    return taken


def test_a_notice_has_the_reason_and_where_the_message_was(sent: list[Message]) -> None:
    """On the topic of the device's account; with the indexes of the readings, if there were several."""
    notices(letter(), letter("50% off", elements=[1, 4])).publish()
    (topic, payload), (other, second) = sent
    assert (topic, other) == ("users/ann/devices/fridge/rejected", "users/ann/devices/50%25 off/rejected")
    assert json.loads(payload) == {
        "error_type": "MissingField",
        "reason": "`t` is missing",
        "device_id": "fridge",
        "topic": "users/ann/devices/fridge/telemetry",
        "received": "2026-05-28T20:26:40.123000+00:00",
        "kafka_topic": "iot-stream",
        "kafka_partition": 3,
        "kafka_offset": 17,
    }
    assert json.loads(second)["elements"] == [1, 4]


def test_a_message_that_the_gateway_refused_has_no_coordinates(sent: list[Message]) -> None:
    """It never was in Kafka, and the notice says so."""
    notices(letter(kafka_topic=None, kafka_partition=None, kafka_offset=None)).publish()
    ((_, payload),) = sent
    document = json.loads(payload)
    assert document["kafka_topic"] is document["kafka_partition"] is document["kafka_offset"] is None


def test_replayed_messages_and_alerts_have_no_notice() -> None:
    """The device heard of the first refusal, and did not send the others."""
    found = notices(letter(attempts=2))
    found.add(DOMAIN, Source("ann", "fridge"), letter()._replace(error_type="NoticeRefused"))
    assert (found.chosen, found.outcomes) == ([], {})


def test_a_device_and_all_devices_have_a_limit_and_the_rest_is_counted(sent: list[Message]) -> None:
    """One device that is always wrong does not take the notices of others; nothing is kept for later."""
    found = notices(*[letter()] * (MOST_OF_DEVICE + 3), *(letter(f"d{n}") for n in range(MOST_NOTICES)))
    outcomes = found.publish()
    assert len(sent) == MOST_NOTICES
    assert sum(topic == rejected_topic("ann", "fridge") for topic, _ in sent) == MOST_OF_DEVICE
    assert outcomes == {"published": MOST_NOTICES, "over_limit": 3 + MOST_OF_DEVICE}
    # The next domain of the same run has what the first has left.
    found.add(DOMAIN, Source("ann", "late"), letter("late"))
    assert found.publish() == {"over_limit": 1}
    assert len(sent) == MOST_NOTICES


def test_an_old_letter_has_no_notice() -> None:
    """After an outage, or when notices are switched on, devices do not hear of long ago."""
    found = notices(letter(), now=NOW + timedelta(hours=1))
    assert (found.chosen, found.outcomes) == ([], {"late": 1})


def test_without_a_broker_notices_are_lost_and_nobody_tries_again_at_once(
    sent: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing does not fail; the next run does not wait for the broker again."""
    calls = []

    def away(messages: list[Message], _seconds: float) -> dict[int, str]:
        calls.append(len(messages))
        raise MqttBrokerAway("away", 1)

    monkeypatch.setattr("tasks.devices.rejected.publisher.publish", away)
    first, second = notices(letter(), letter("b"), letter("c")), notices(letter())
    assert first.publish() == {"published": 1, "lost": 2}
    assert second.publish() == {"lost": 1}
    assert calls == [3]
    assert sent == []


@pytest.mark.usefixtures("sent")
def test_a_notice_that_the_broker_refuses_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are published."""
    monkeypatch.setattr(
        "tasks.devices.rejected.publisher.publish", lambda _messages, _seconds: {1: "Not authorized"}
    )
    found = notices(letter(), letter("b"))
    assert found.publish() == {"published": 1, "refused": 1}


def test_a_topic_of_a_domain_gets_no_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """There a notice would be a message of the device, and refused again."""
    monkeypatch.setattr(
        rejected, "rejected_topic", lambda user, device: f"users/{user}/devices/{device}/telemetry"
    )
    found = notices(letter())
    assert (found.chosen, found.outcomes) == ([], {"refused": 1})
