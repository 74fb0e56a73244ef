"""The gateway keeps to what each QoS promises."""

from ingest.gateway import MOST_UNPROMISED, Gateway
from ingest.mqtt.packets import Publish
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
    # What librdkafka has to tell of the missing broker counts as waiting, too.
    assert 200 <= gateway._dropped < 250
    assert len(gateway._producer) >= MOST_UNPROMISED + 1000 - 50
    gateway._producer.purge()


def test_a_message_of_qos_2_is_not_acknowledged_as_if_it_were_qos_1() -> None:
    """No subscription of ours brings one: the gateway ends with a sentence, and takes nothing."""
    gateway = Gateway(Settings(kafka_bootstrap_servers="127.0.0.1:1"), (telemetry.DOMAIN,))
    gateway._session._on_message(message(2, 1))
    assert "QoS 2" in (gateway._session.failure or "")
    assert len(gateway._session.unacknowledged) == 0
