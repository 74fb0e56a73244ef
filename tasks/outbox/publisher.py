"""This process's MQTT connection for publishing to users: QoS 1, in order, acknowledged by the broker."""

import threading
import time
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import structlog
from celery import signals
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tasks.errors import NotNow
from tasks.servers import mqtt
from tasks.settings import settings

log = structlog.get_logger()

# For each of the two steps: TCP, and MQTT's CONNECT. With the wait for PUBACKs they fit into one turn.
CONNECT_SECONDS = 2.0

Message = tuple[str, bytes]
"""Topic and payload."""
Kept = tuple[str, bytes, Literal[True]]
"""The same of a message that the broker keeps for who subscribes later; an empty payload removes it."""

# Bytes of a PUBLISH besides topic and payload.
_MOST_HEADER_BYTES = 10


class MqttBrokerAway(NotNow):
    """The MQTT broker took only the first `count` messages; check MQTT_HOST, account, ACL, broker."""

    def __init__(self, reason: str, count: int = 0) -> None:
        super().__init__(reason)
        self.count = count


class _Publisher:
    """One connection. It is never repaired: after any failure a new one is made."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._connected: str | None = None
        self._ended: str | None = None
        self._answers: dict[int, ReasonCode] = {}
        self._most_bytes = 0
        self._retains = True
        self._client = mqtt.client(
            settings(), f"sluice-notifier-{uuid.uuid4().hex[:12]}", reconnect_on_failure=False
        )
        self._client.connect_timeout = CONNECT_SECONDS
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish

    @property
    def works(self) -> bool:
        """Whether the connection is open, as far as known."""
        return self._client.is_connected() and self._ended is None

    def open(self) -> None:
        """Connects. Raises `MqttBrokerAway`."""
        chosen = settings()
        try:
            self._client.connect(chosen.mqtt_host, chosen.mqtt_port, chosen.mqtt_keepalive_seconds)
        except OSError as error:
            raise MqttBrokerAway(str(error)) from error
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self._ended, CONNECT_SECONDS)
        if self._connected != "Success":
            raise MqttBrokerAway(self._connected or self._ended or "no answer to CONNECT")

    def publish(self, messages: Sequence[Message | Kept], seconds: float) -> dict[int, str]:
        """Returns when the broker has answered all, with the refused ones. Raises `MqttBrokerAway`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._answers.clear()
        refused: dict[int, str] = {}
        sent: dict[int, int] = {}
        for number, message in enumerate(messages):
            try:
                self._check(message)
                info = self._client.publish(*message[:2], qos=1, retain=len(message) > 2)
            except ValueError as error:
                refused[number] = str(error)
                continue
            if info.rc not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_QUEUE_SIZE}:
                break
            sent[info.mid] = number
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended is not None or len(self._answers) >= len(sent),
                max(0.0, deadline - time.monotonic()),
            )
            answers = dict(self._answers)
        refused |= {sent[mid]: str(reason) for mid, reason in answers.items() if reason.is_failure}
        taken = {sent[mid] for mid, reason in answers.items() if not reason.is_failure}
        if len(refused) + len(taken) < len(messages):
            count = next(number for number in range(len(messages)) if number not in taken)
            raise MqttBrokerAway(self._ended or "no answer in time", count)
        return refused

    def _check(self, message: Message | Kept) -> None:
        """Raises `ValueError` for a message for which the broker would end every connection."""
        topic, payload = message[:2]
        if len(message) > 2 and not self._retains:
            raise ValueError("the broker retains no messages; let it, or set RETAINED_ALERT_STATES=off")
        size = len(topic.encode()) + len(payload) + _MOST_HEADER_BYTES
        if self._most_bytes and size > self._most_bytes:
            raise ValueError(f"{size} bytes are more than the broker's limit, {self._most_bytes}")

    def close(self) -> None:
        """Ends the connection; unacknowledged messages are forgotten."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, given: Properties | None
    ) -> None:
        with self._changed:
            self._most_bytes = getattr(given, "MaximumPacketSize", 0)
            self._retains = getattr(given, "RetainAvailable", 1) == 1
            self._connected = str(reason)
            self._changed.notify_all()

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _p: Properties | None
    ) -> None:
        with self._changed:
            self._ended = f"the connection ended: {reason}"
            self._changed.notify_all()

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        with self._changed:
            self._answers[mid] = reason
            self._changed.notify_all()


def publish(messages: Sequence[Message | Kept], seconds: float = 4.0) -> dict[int, str]:
    """Publishes with QoS 1, in order, and returns when the broker has answered every message.

    The result maps the number of each refused message to the broker's reason.

    It takes at most `seconds`, and four more when it has to connect. Raises `MqttBrokerAway`.
    """
    try:
        if not _publisher().works:
            close()
            log.debug("mqtt_connects", host=settings().mqtt_host, port=settings().mqtt_port)
            _publisher().open()
        return _publisher().publish(messages, seconds)
    except MqttBrokerAway:
        close()
        raise


@lru_cache
def _publisher() -> _Publisher:
    """Made at the first message, thus after the fork, which threads do not survive."""
    return _Publisher()


def close() -> None:
    """Drops the connection; the next message opens a new one."""
    if _publisher.cache_info().currsize:
        _publisher().close()
        _publisher.cache_clear()


@signals.worker_process_shutdown.connect
def _close(**_: Any) -> None:
    close()
