"""One persistent MQTT session, by which the gateway and the control process receive.

The broker keeps what it has not seen acknowledged, and sends it again by the next connection of the same
client id, whichever process that is.
"""

import math
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.mqtt import packets
from ingest.mqtt.acknowledge import Acknowledgements
from ingest.mqtt.packets import Packet, Publish
from ingest.mqtt.session_memory import SessionMemory
from tasks.observe.metrics import gateway as metrics
from tasks.observe.metrics.several import PUBLISHES_REFUSED
from tasks.servers import mqtt
from tasks.servers.pauses import pauses
from tasks.settings import Settings

log = structlog.get_logger()

MIN_RECONNECT_SECONDS = 1.0
MAX_RECONNECT_SECONDS = 30.0
# Without a rival for so long the pauses between connections are short again.
CALM_SECONDS = 2 * MAX_RECONNECT_SECONDS
READ_BYTES = 65_536
# The reason with which MQTT 5 ends a connection when another one comes with the same client id.
TAKEN_OVER = 142
# After a change of rights the broker knows of it within seconds.
ASK_AGAIN_SECONDS = 30.0


RIVAL = "another process uses the client id of this one; each process that receives at once needs its own"


class Publishing(NamedTuple):
    """A message on its way to the broker: what is needed if the broker refuses it."""

    topic: str
    payload: bytes
    correlation: bytes
    otherwise: str


_UNKNOWN = Publishing("", b"", b"", "")


class MqttSession:
    """An MQTT client that calls `take` with every message; it acknowledges nothing on its own.

    The network is served either by a thread of its own, after `start`, or by whoever calls `turn` again and
    again; that thread calls `take`. When it raises, or the broker refuses a subscription, `failure` is a
    sentence that says why, and nothing is taken any more. Filters to `leave` are those that an older session
    may still have. After a connection `present` says whether the broker had the session. An `old` one is
    not expected to be there. `optional` filters may be refused: the rest is served, and they are asked for
    again now and then. When another process has taken the session over, `may_return` says whether this one
    connects again, with growing pauses; otherwise that is a `failure`, and it does not.
    """

    def __init__(
        self,
        chosen: Settings,
        client_id: str,
        subscriptions: Sequence[tuple[str, SubscribeOptions]],
        take: Callable[[Publish], None],
        *,
        receive_maximum: int,
        leave: Sequence[str] = (),
        optional: Sequence[str] = (),
        old: bool = False,
        may_return: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = chosen
        self._may_return = may_return
        self._taken_over_at = -math.inf
        self._subscriptions = list(subscriptions)
        self._leave = list(leave)
        self._optional = frozenset(optional)
        self._again_at = math.inf
        self._take = take
        # By packet id, so that they are few.
        self._topics: dict[int, Publishing] = {}
        self._stopping = False
        self._memory = None if old else SessionMemory(client_id)
        self.connects = 0
        self.present: bool | None = None
        self.left = False
        self.left_at = 0.0
        self._network: threading.Thread | None = None
        self._connect_at = 0.0
        self._pauses = pauses(MIN_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS)
        self.subscribed = False
        self.failure: str | None = None
        self._client = mqtt.client_of(_Reader, chosen, client_id, manual_ack=True, reconnect_on_failure=True)
        self._client.reconnect_delay_set(int(MIN_RECONNECT_SECONDS), int(MAX_RECONNECT_SECONDS))
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_unsubscribe = self._on_unsubscribe
        self._client.on_publish_received = self._on_message
        self.unacknowledged = Acknowledgements(self._client.ack_all)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = chosen.mqtt_session_expiry_seconds
        properties.ReceiveMaximum = receive_maximum
        self._client.connect_async(
            chosen.mqtt_host,
            chosen.mqtt_port,
            keepalive=chosen.mqtt_keepalive_seconds,
            clean_start=False,
            properties=properties,
        )

    def show(self) -> None:
        """Serves the metrics of the connection."""
        metrics.MQTT_CONNECTED.read_from(lambda: self.subscribed)
        metrics.MQTT_CONNECTS.read_from(lambda: self.connects)
        memory = self._memory
        if memory is not None:
            metrics.MQTT_SESSIONS_LOST.read_from(lambda: memory.lost)

    def start(self) -> None:
        """Connects, in a thread of its own, and again whenever the connection ends."""
        self._client.loop_start()
        self._network = next(t for t in threading.enumerate() if t.name.startswith("paho-mqtt-client"))

    def turn(self, seconds: float) -> None:
        """Takes what has come, waiting at most this many seconds for something; connects if necessary."""
        connection = self._client.socket()
        if connection is None:
            self._connect(seconds)
            return
        writing = [connection] if self._client.want_write() else []
        # `select` does not see what TLS has decrypted already.
        pending = getattr(connection, "pending", int)()
        readable, writable, _ = select.select([connection], writing, [], 0 if pending else seconds)
        if readable or pending:
            self._client.loop_read()
        if writable:
            self._client.loop_write()
        self._client.loop_misc()

    def _connect(self, seconds: float) -> None:
        wait = self._connect_at - time.monotonic()
        if self._stopping or wait > 0:
            time.sleep(min(max(wait, 0.01), seconds))
            return
        try:
            self._client.reconnect()
        except OSError:
            self._on_connect_fail(self._client, None)
        self._connect_at = time.monotonic() + next(self._pauses)

    def ask_again(self) -> None:
        """Asks for optional subscriptions that were refused, if that is some time ago."""
        if time.monotonic() >= self._again_at:
            self._again_at = math.inf
            # All of them: the broker does not mind, and answers in this order.
            self._client.subscribe(self._subscriptions)

    def runs(self) -> bool:
        """Whether the thread of the network does."""
        return self._network is not None and self._network.is_alive()

    def stop(self) -> None:
        """Nothing more is taken; what was can still be acknowledged."""
        self._stopping = True

    def publish(
        self, topic: str, payload: bytes, *, correlation: bytes = b"", otherwise: str = ""
    ) -> MQTTMessageInfo:
        """Publishes with QoS 1, in the order of the calls; the result knows whether the broker has it.

        If the broker refuses the topic, and there is one to take `otherwise`, it goes there.
        """
        properties = None
        if correlation:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        sent = self._client.publish(topic, payload, qos=1, properties=properties)
        again = payload if otherwise else b""
        self._topics[sent.mid] = Publishing(topic, again, correlation, otherwise)
        return sent

    def close(self, *, forget: bool = False) -> None:
        """Ends the connection; the broker keeps the session unless it is to `forget` it."""
        self.stop()
        properties = None
        if forget:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
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
        self.connects += 1
        if time.monotonic() - self._taken_over_at > CALM_SECONDS:
            self._pauses = pauses(MIN_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS)
            self._client.reconnect_delay_set(int(MIN_RECONNECT_SECONDS), int(MAX_RECONNECT_SECONDS))
        self.present = flags.session_present
        log.info("mqtt_connected", session_present=flags.session_present)
        if self._memory is not None:
            self._memory.connected(present=flags.session_present)
        if self._leave:
            client.unsubscribe(self._leave)
        # Even with a session present: if the broker lost it or a filter changed, no message would arrive.
        if self._subscriptions:
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
        if reason.value == TAKEN_OVER and not self._stopping:
            self._note_rival()

    def _note_rival(self) -> None:
        if not self._may_return():
            self.failure = "another process has taken over the MQTT session of this one"
            # Or the thread of the network would take it back before the process ends.
            self._client.disconnect()
            return
        self._taken_over_at = time.monotonic()
        pause = next(self._pauses)
        self._connect_at = self._taken_over_at + pause
        self._client.reconnect_delay_set(int(pause), int(MAX_RECONNECT_SECONDS))
        log.error("mqtt_session_taken_over", reason=RIVAL, again_in_s=pause)

    def rival(self) -> str:
        """That another process uses the same client id, if it did lately; empty otherwise."""
        return RIVAL if time.monotonic() - self._taken_over_at < CALM_SECONDS else ""

    def _on_subscribe(
        self,
        _client: Client,
        _data: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [
            topic for (topic, _), why in zip(self._subscriptions, reasons, strict=True) if why.is_failure
        ]
        if needed := [topic for topic in refused if topic not in self._optional]:
            self.failure = f"the MQTT broker refused the subscription to {needed[0]}; check the account's ACL"
        elif refused:
            log.warning("subscription_refused", topics=refused, again_in_s=ASK_AGAIN_SECONDS)
            self._again_at = time.monotonic() + ASK_AGAIN_SECONDS
        self.subscribed = self.failure is None

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        topic, payload, correlation, otherwise = self._topics.pop(mid, _UNKNOWN)
        if reason.is_failure and otherwise:
            log.info("answer_goes_elsewhere", topic=topic, reason=str(reason))
            self.publish(otherwise, payload, correlation=correlation)
        elif reason.is_failure:
            PUBLISHES_REFUSED.add(1, "answer")
            log.error("answer_refused", topic=topic, reason=str(reason))

    def _on_unsubscribe(
        self,
        _client: Client,
        _data: Any,
        _mid: int,
        _reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self.left, self.left_at = True, time.monotonic()

    def _on_message(self, message: Publish) -> None:
        if self._stopping or self.failure is not None:
            return
        if message.qos > 1:
            # It is from a subscription that is not ours: a PUBACK would break the protocol.
            self.failure = (
                f"a message came with QoS {message.qos}; end the session of this client id at the broker"
            )
            return
        try:
            self._take(message)
        except Exception as error:  # noqa: BLE001 - an escape would end the network's thread and leave us deaf
            self.failure = f"a message could not be taken: {error!r}"


class _Reader(Client):
    """paho's client, which reads as much as there is at once, and messages by `mqtt_packets`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._stream = packets.Stream()
        self.on_publish_received: Callable[[Publish], None] = lambda _message: None

    def reconnect(self) -> MQTTErrorCode:
        """As paho's; what was left of the old connection's last packet goes with it."""
        self._stream = packets.Stream()
        return super().reconnect()

    def ack_all(self, mids: list[int]) -> None:
        """Acknowledges messages of QoS 1 in one write."""
        self._packet_queue(packets.PUBACK, packets.pubacks(mids), mids[-1], 1)

    def _packet_read(self) -> MQTTErrorCode:
        try:
            data = self._sock_recv(READ_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError as error:
            log.warning("mqtt_connection_lost", error=str(error))
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not data:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        self._last_bytes_received = time.monotonic()
        try:
            for packet in self._stream.packets(data):
                status = self._handle(packet)
                if status != MQTTErrorCode.MQTT_ERR_SUCCESS or self._sock is None:
                    return status
        except MalformedPacket as error:
            log.warning("mqtt_packet_malformed", error=str(error))
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle(self, packet: Packet) -> MQTTErrorCode:
        if packet.first & 0xF0 == packets.PUBLISH:
            self.on_publish_received(packets.publish(packet))
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        self._in_packet = {
            "command": packet.first,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(packet.body),
            "packet": bytearray(packet.body),
            "to_process": 0,
            "pos": 0,
        }
        return self._packet_handle()
