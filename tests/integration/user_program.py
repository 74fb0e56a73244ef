"""A user's program: it publishes rules and commands, and hears the answers."""

import json
from typing import Any
from uuid import uuid4

import psycopg
from paho.mqtt.client import Client, MQTTMessage

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from tests.integration import fleet
from tests.integration.fleet import wait_until

HOT = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}
Database = psycopg.Connection[tuple[Any, ...]]


class User:
    """A user's program: publishes and hears the answers."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self.id = uuid4().hex[:8]
        self.heard: list[tuple[str, dict[str, Any]]] = []
        credential = provision.provision(database, accounts.user(self.id))
        self.client: Client = fleet.connect(stack, credential)
        self.client.on_message = self._on_message
        subscribed: list[int] = []
        self.client.on_subscribe = lambda *_: subscribed.append(1)
        for topic in ("config/status", "alerts/manage/status"):
            self.client.subscribe(f"users/{self.id}/{topic}", qos=1)
        wait_until(lambda: len(subscribed) == 2, 10, "the subscriptions")

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.heard.append((message.topic.removeprefix(f"users/{self.id}/"), json.loads(message.payload)))

    def publish(self, topic: str, document: object, *, retain: bool = False) -> None:
        """Sends a document, or bytes as they are."""
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.client.publish(f"users/{self.id}/{topic}", payload, qos=1, retain=retain).wait_for_publish(10)

    def ask(self, topic: str, document: object, seconds: float = 20) -> dict[str, Any]:
        """The answer to a document."""
        before = len(self.heard)
        self.publish(topic, document)
        wait_until(lambda: len(self.heard) > before, seconds, f"the answer on {topic}")
        answered, answer = self.heard[before]
        assert answered == f"{topic}/status"
        return answer

    def rules(self, database: Database) -> Any:
        """The rules in the table."""
        row = database.execute("SELECT rules FROM user_configs WHERE user_id = %s", [self.id]).fetchone()
        return None if row is None else row[0]
