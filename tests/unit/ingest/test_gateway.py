"""The gateway keeps to what each QoS promises."""

from datetime import UTC, datetime

import pytest

from examples import number, shelly, zigbee2mqtt
from ingest.gateway import MOST_UNPROMISED, Gateway
from ingest.mqtt.packets import Publish
from ingest.mqtt.record import record_of
from tasks import telemetry
from tasks.settings import Settings


def message(qos: int, mid: int) -> Publish:
    """A device's message."""
    return Publish("users/u/devices/d/telemetry", b"{}", qos, mid, dup=False, retain=False)


def test_messages_of_qos_0_leave_room_for_those_of_qos_1() -> None:
    """While Kafka is away they are dropped beyond a limit, and counted; all of QoS 1 is kept."""
    chosen = Settings(kafka_bootstrap_servers="127.0.0.1:1", mqtt_receive_maximum=500)
    gateway = Gateway(chosen, (telemetry.DOMAIN,))
    for _ in range(MOST_UNPROMISED + 200):
        gateway._take(message(0, 0), gateway._session.unacknowledged)
    for connection in range(2):
        for mid in range(1, 501):
            gateway._take(message(1, mid), gateway._session.unacknowledged)
        assert len(gateway._session.unacknowledged) == 500 * (connection + 1)
    # librdkafka's own events about the missing broker count as waiting, too.
    assert 200 <= gateway._dropped < 250
    assert len(gateway._producer) >= MOST_UNPROMISED + 1000 - 50
    gateway._producer.purge()


def test_a_message_of_qos_2_is_not_acknowledged_as_if_it_were_qos_1() -> None:
    """No subscription of ours brings one: the gateway ends with a sentence, and takes nothing."""
    gateway = Gateway(Settings(kafka_bootstrap_servers="127.0.0.1:1"), (telemetry.DOMAIN,))
    gateway._session._on_message(message(2, 1))
    assert "QoS 2" in (gateway._session.failure or "")
    assert len(gateway._session.unacknowledged) == 0


DOMAINS = (telemetry.DOMAIN, zigbee2mqtt.DOMAIN, number.DOMAIN, shelly.DOMAIN)


def test_a_topic_that_holds_no_readings_is_acknowledged_and_not_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An ignored message never costs a record; readings do, and so does a topic of nobody."""
    gateway = Gateway(Settings(kafka_bootstrap_servers="127.0.0.1:1"), DOMAINS)
    waiting = gateway._session.unacknowledged
    passed_on: list[str] = []
    monkeypatch.setattr(gateway, "_produce", lambda message, _confirm: passed_on.append(message.topic))
    for mid, topic in enumerate(
        ("zigbee2mqtt/a/b/availability", "zigbee2mqtt/bridge/state", "home/boiler/$state"), start=1
    ):
        gateway._take(Publish(topic, b"x", 1, mid, dup=False, retain=True), waiting)
    for mid, topic in enumerate(("zigbee2mqtt/a/b", "nobody/knows"), start=9):
        gateway._take(Publish(topic, b"{}", 1, mid, dup=False, retain=False), waiting)
    assert passed_on == ["zigbee2mqtt/a/b", "nobody/knows"]
    assert len(waiting) == 5


def test_the_subscription_follows_from_the_topics() -> None:
    """Each topic of each domain by one filter, and none that another covers."""
    filters, _ = Gateway(Settings(kafka_bootstrap_servers="127.0.0.1:1"), DOMAINS)._filters()
    assert {"users/+/devices/+/telemetry", "zigbee2mqtt/+/#", "home/+/+", "+/status/+"} <= set(filters)
    assert len(filters) == len(set(filters))
    assert "shellies/shellies/+/+/#" not in filters


def test_the_content_type_goes_with_the_messages_of_a_form() -> None:
    """Records of other domains are as they were."""

    def headers(topic: str, content_type: str) -> dict[str, object]:
        chosen = Settings()
        now = datetime.now(UTC)
        record = record_of(DOMAINS, topic, b"{}", "", now, chosen, content_type=content_type)
        return dict(record.headers)

    assert headers("zigbee2mqtt/a", "application/cbor")["content_type"] == b"application/cbor"
    assert "content_type" not in headers("zigbee2mqtt/a", "")
    assert "content_type" not in headers("users/a/devices/b/telemetry", "application/cbor")
