"""Single MQTT connections for the tests of credentials: what the broker says to them, one call at a time."""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from compose.local.stack import Stack
from ingest.admin.accounts.provision import Credential
from tests.integration import fleet
from tests.integration.fleet import wait_until

# A change is effective in well under a second; the rest is for a machine that is busy with other tests.
EFFECTIVE_SECONDS = 90


class Broker(Protocol):
    """Whatever says where an MQTT broker is."""

    @property
    def env(self) -> Mapping[str, str]:
        """`MQTT_HOST` and `MQTT_PORT`, among others."""


class Session:
    """One MQTT connection, with what the broker said to it."""

    def __init__(
        self, stack: Broker, credential: Credential | None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.connected: str | None = None
        self.ended = False
        self.answers = 0
        self.published: list[bool] = []
        self.received: list[tuple[str, bytes]] = []
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        if credential is not None:
            self.client.username_pw_set(credential.username, credential.password)
        if tls is not None:
            self.client.tls_set_context(tls)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_publish = self._on_publish
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe
        self.client.connect(stack.env["MQTT_HOST"], int(stack.env["MQTT_PORT"]))

    def _on_connect(
        self,
        _client: Client,
        _data: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _more: Properties | None,
    ) -> None:
        self.connected = str(reason)

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _more: Properties | None,
    ) -> None:
        self.ended = True

    def _on_publish(
        self, _client: Client, _data: object, _mid: int, reason: ReasonCode, _more: Properties
    ) -> None:
        self.published.append(not reason.is_failure)

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, _reasons: list[ReasonCode], _more: Properties | None
    ) -> None:
        self.answers += 1

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.received.append((message.topic, bytes(message.payload)))

    def publish(self, topic: str, payload: bytes = b"{}") -> bool:
        """Whether the broker grants a QoS 1 publish."""
        before = len(self.published)
        self.client.publish(topic, payload, qos=1)
        self.pump(lambda: len(self.published) > before)
        return self.published[-1]

    def subscribe(self, *topics: str) -> None:
        """Subscribes with QoS 1, and returns when the broker has answered."""
        answers = self.answers
        self.client.subscribe([(topic, 1) for topic in topics])
        self.pump(lambda: self.answers > answers)

    def listen(self, seconds: float = 0.3) -> None:
        """Takes in what the broker sends within this time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.client.loop(0.02)

    def pump(self, condition: Callable[[], object], seconds: float = 10) -> None:
        """Reads and writes until the condition holds; fails when it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the broker did not answer in time"
            self.client.loop(0.02)


@contextmanager
def session(
    stack: Broker, credential: Credential | None, tls: ssl.SSLContext | None = None
) -> Iterator[Session]:
    """A connection that the broker has let in or turned away."""
    opened = Session(stack, credential, tls)
    try:
        opened.pump(lambda: opened.connected is not None)
        yield opened
    finally:
        opened.client.disconnect()
        opened.client.loop(0.02)
        opened.client._reset_sockets()  # or the garbage collector finds them, some time later


def let_in(stack: Stack, credential: Credential | None) -> bool:
    """Whether the broker lets a client in with this."""
    with session(stack, credential) as opened:
        return opened.connected == "Success"


def await_honoured(stack: Stack, credential: Credential) -> Credential:
    """The credential, once the broker knows it."""
    wait_until(lambda: let_in(stack, credential), EFFECTIVE_SECONDS, f"{credential.username} to be let in")
    return credential


def connect(
    stack: Stack, credential: Credential, client_id: str, *, clean: bool, keep: bool = False
) -> Client:
    """One connection, made and answered; its session outlives it where it is to be kept."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(credential.username, credential.password)
    answered: list[bool] = []
    client.on_connect = lambda _c, _d, flags, _r, _p: answered.append(flags.session_present)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 0xFFFF_FFFF if keep else 0
    client.connect(
        stack.env["MQTT_HOST"], int(stack.env["MQTT_PORT"]), clean_start=clean, properties=properties
    )
    client.loop_start()
    fleet.wait_until(lambda: bool(answered), 30, "an answer to CONNECT")
    client.user_data_set(answered[0])
    return client


def had_session(client: Client) -> bool:
    """Whether the broker had the session of a client that `connect` made."""
    present: bool = client.user_data_get()
    return present


def leave(client: Client) -> None:
    """Ends a connection."""
    client.disconnect()
    client.loop_stop()
