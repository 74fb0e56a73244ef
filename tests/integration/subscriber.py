"""A user who listens to the alerts over MQTT."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from paho.mqtt.client import Client, MQTTMessage

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from tests.integration.fleet import connect, wait_until
from tests.integration.mqtt_session import await_honoured


class Subscriber:
    """A user who listens to the alerts."""

    def __init__(self, stack: Stack, user: str) -> None:
        with psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as connection:
            credential = provision.provision(connection, accounts.user(user))
        await_honoured(stack, credential)
        self.user = user
        self.notices: list[dict[str, Any]] = []
        self.answers: list[tuple[str, dict[str, Any]]] = []
        self._client = connect(stack, credential)
        self._client.on_message = self._on_message
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        topics = ("alerts", "config/status", "alerts/manage/status", "rules")
        self._client.subscribe([(f"users/{user}/{topic}", 1) for topic in topics])
        assert subscribed.wait(10)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        topic = message.topic.removeprefix(f"users/{self.user}/")
        if topic == "alerts":
            self.notices.append(json.loads(message.payload))
        else:
            self.answers.append((topic, json.loads(message.payload)))

    def told(self, count: int) -> list[tuple[str, str]]:
        """Device and status of each notice, once so many have come."""
        wait_until(lambda: len(self.notices) >= count, 60, f"{count} notices")
        return [(notice["device_id"], notice["status"]) for notice in self.notices]

    def publish(self, topic: str, document: dict[str, Any]) -> None:
        """Says something on a topic of the user's own, and returns when the broker has it."""
        self._client.publish(f"users/{self.user}/{topic}", json.dumps(document), qos=1).wait_for_publish(10)

    def ask(self, topic: str, document: dict[str, Any]) -> dict[str, Any]:
        """The answer to a document that is published on a topic of the user's own."""
        before = len(self.answers)
        self.publish(topic, document)
        wait_until(lambda: len(self.answers) > before, 30, f"the answer on {topic}/status")
        answered, answer = self.answers[before]
        assert answered == f"{topic}/status"
        return answer

    def read(self, what: str) -> dict[str, Any]:
        """The answer to a query for the `rules`."""
        before = len(self.answers)
        self.publish(f"{what}/get", {})
        wait_until(lambda: len(self.answers) > before, 30, f"the answer on {what}")
        answered, answer = self.answers[before]
        assert answered == what
        return answer

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def subscriber(stack: Stack, user: str) -> Iterator[Subscriber]:
    """A user who listens during the block."""
    listening = Subscriber(stack, user)
    try:
        yield listening
    finally:
        listening.close()
