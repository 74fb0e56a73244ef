"""One persistent MQTT session, by which the gateway and the control process receive.

The broker keeps what it has not seen acknowledged, and sends it again by the next connection of the same
client id, whichever process that is.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.acknowledge import Acknowledgements
from tasks import metrics, mqtt
from tasks.settings import Settings

log = structlog.get_logger()

MAX_RECONNECT_SECONDS = 30


class MqttSession:
    """A client that `take` is called with every message of; it acknowledges nothing by itself.

    `take` is called by the thread of the network. When it raises, or the broker refuses a subscription,
    `failure` is a sentence that says why, and nothing is taken any more. Filters to `leave` are those that an
    older session may still have.
    """

    def __init__(
        self,
        chosen: Settings,
        client_id: str,
        subscriptions: Sequence[tuple[str, SubscribeOptions]],
        take: Callable[[MQTTMessage], None],
        *,
        receive_maximum: int,
        leave: Sequence[str] = (),
    ) -> None:
        self._settings = chosen
        self._subscriptions = list(subscriptions)
        self._leave = list(leave)
        self._take = take
        self._receive_maximum = receive_maximum
        self._stopping = False
        self._connects = 0
        self._network: threading.Thread | None = None
        self.subscribed = False
        self.failure: str | None = None
        self._client = mqtt.client(chosen, client_id, manual_ack=True, reconnect_on_failure=True)
        self._client.reconnect_delay_set(min_delay=1, max_delay=MAX_RECONNECT_SECONDS)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self.unacknowledged = Acknowledgements(self._client.ack)

    def show(self) -> None:
        """Serves the metrics of the connection."""
        metrics.MQTT_CONNECTED.read_from(lambda: self.subscribed)
        metrics.MQTT_CONNECTS.read_from(lambda: self._connects)

    def start(self) -> None:
        """Connects, in a thread of its own, and again whenever the connection ends."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._settings.mqtt_session_expiry_seconds
        properties.ReceiveMaximum = self._receive_maximum
        self._client.connect_async(
            self._settings.mqtt_host,
            self._settings.mqtt_port,
            keepalive=self._settings.mqtt_keepalive_seconds,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()
        self._network = next(t for t in threading.enumerate() if t.name.startswith("paho-mqtt-client"))

    def runs(self) -> bool:
        """Whether the thread of the network does."""
        return self._network is not None and self._network.is_alive()

    def stop(self) -> None:
        """Nothing more is taken; what was can still be acknowledged."""
        self._stopping = True

    def publish(self, topic: str, payload: bytes) -> None:
        """Publishes with QoS 1, before any later acknowledgement."""
        self._client.publish(topic, payload, qos=1)

    def close(self) -> None:
        """Ends the connection; the broker keeps the session."""
        self.stop()
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self,
        client: Client,
        _data: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.warning("mqtt_refused", reason=str(reason), username=self._settings.mqtt_username)
            return
        self._connects += 1
        log.info("mqtt_connected", session_present=flags.session_present)
        if self._leave:
            client.unsubscribe(self._leave)
        # Also with a session present: a broker that lost it, or a changed filter, would leave us deaf.
        client.subscribe(self._subscriptions)

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        log.warning("mqtt_away", host=self._settings.mqtt_host, port=self._settings.mqtt_port)

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _p: Properties | None
    ) -> None:
        self.subscribed = False
        self.unacknowledged.connection_ended()
        note = log.info if self._stopping else log.warning
        note("mqtt_disconnected", reason=str(reason))

    def _on_subscribe(
        self,
        _client: Client,
        _data: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if refused := [
            topic for (topic, _), why in zip(self._subscriptions, reasons, strict=True) if why.is_failure
        ]:
            self.failure = (
                f"the MQTT broker refused the subscription to {refused[0]}; check the account's ACL"
            )
        self.subscribed = self.failure is None

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if self._stopping or self.failure is not None:
            return
        try:
            self._take(message)
        except Exception as error:  # noqa: BLE001 - an escape would end paho's thread and leave the process deaf
            self.failure = f"a message could not be taken: {error!r}"
