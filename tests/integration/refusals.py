"""Topics on which the MQTT broker refuses what Sluice publishes. Needs the fixture `on_servers`."""

from collections.abc import Iterator
from contextlib import contextmanager

from compose.local.stack import Stack
from tasks.outbox import publisher
from tasks.outbox.publisher import MqttBrokerAway
from tests.integration.changes import Database
from tests.integration.fleet import wait_until


def is_refused(topic: str) -> bool:
    """Whether the broker refuses what Sluice publishes there. Nobody may listen."""
    try:
        return bool(publisher.publish([(topic, b"")]))
    except MqttBrokerAway:
        return True


@contextmanager
def refused(stack: Stack, database: Database, topic: str, example: str = "") -> Iterator[None]:
    """Sluice's account may not publish there; `example` is a topic of such a filter."""
    row = [stack.env["MQTT_USERNAME"], topic]
    database.execute("INSERT INTO mqtt_acl VALUES (%s, 'deny', 'publish', %s)", row)
    try:
        wait_until(lambda: is_refused(example or topic), 60, "the broker to refuse")
        yield
    finally:
        database.execute(
            "DELETE FROM mqtt_acl WHERE username = %s AND permission = 'deny' AND topic = %s", row
        )
        wait_until(lambda: not is_refused(example or topic), 60, "the broker to take it again")
