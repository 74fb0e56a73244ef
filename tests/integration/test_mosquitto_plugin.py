"""What Mosquitto's plugin adds: client ids belong to accounts, and a reload forgets no session."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from ingest.admin.accounts.provision import Credential
from tests.integration.fleet import wait_until
from tests.integration.mqtt_session import await_honoured

pytestmark = pytest.mark.usefixtures("alone")

Database = psycopg.Connection[tuple[Any, ...]]


class Connected:
    """A connection that was let in: whether its session was there, what came, whether it has ended."""

    def __init__(self, stack: Stack, credential: Credential, client_id: str, *, clean: bool) -> None:
        self.present: bool | None = None
        self.ended = False
        self.received: list[bytes] = []
        self.subscribed = False
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self.client.username_pw_set(credential.username, credential.password)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        host, port = stack.env["MQTT_HOST"], int(stack.env["MQTT_PORT"])
        self.client.connect(host, port, clean_start=clean, properties=properties)
        self.client.loop_start()
        wait_until(lambda: self.present is not None, 30, "an answer to CONNECT")

    def _on_connect(self, _client: Client, _data: object, flags: Any, reason: Any, _more: object) -> None:
        assert not reason.is_failure, reason
        self.present = flags.session_present

    def _on_disconnect(self, *_: object) -> None:
        self.ended = True

    def _on_subscribe(self, *_: object) -> None:
        self.subscribed = True

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.received.append(bytes(message.payload))

    def subscribe(self, topic: str) -> None:
        """Returns when the broker has answered."""
        self.client.subscribe(topic, qos=1)
        wait_until(lambda: self.subscribed, 30, "an answer to SUBSCRIBE")

    def publish(self, topic: str, payload: bytes) -> None:
        """Returns when the broker has the message."""
        self.client.publish(topic, payload, qos=1).wait_for_publish(30)


@contextmanager
def connected(
    stack: Stack, credential: Credential, client_id: str, *, clean: bool = False
) -> Iterator[Connected]:
    """A connection during the block; its session stays an hour."""
    opened = Connected(stack, credential, client_id, clean=clean)
    try:
        yield opened
    finally:
        opened.client.disconnect()
        opened.client.loop_stop()


def provisioned(stack: Stack, database: Database, *made: accounts.Account) -> list[Credential]:
    """Accounts that the broker knows."""
    return [await_honoured(stack, provision.provision(database, account)) for account in made]


def service(stack: Stack) -> Credential:
    """Sluice's own account."""
    return Credential(stack.env["MQTT_USERNAME"], stack.env["MQTT_PASSWORD"])


def test_one_client_id_is_a_session_of_each_account(stack: Stack, database: Database) -> None:
    """Nobody ends the connection or the session of another account, with clean start or without."""
    run = uuid4().hex[:8]
    owner, thief = provisioned(stack, database, accounts.user(run), accounts.device(f"{run}-other", "thief"))
    with connected(stack, owner, "dashboard") as program:
        program.subscribe(f"users/{run}/alerts")
    for clean in (True, False):
        with connected(stack, thief, "dashboard", clean=clean) as other:
            assert other.present is not clean
    with connected(stack, service(stack), f"{run}-service") as sluice:
        sluice.publish(f"users/{run}/alerts", b"hot")
    with connected(stack, owner, "dashboard") as program:
        assert program.present
        wait_until(lambda: program.received == [b"hot"], 30, "what waited in the session")
        with (
            connected(stack, thief, "dashboard"),
            connected(stack, thief, f"{owner.username}:dashboard"),
            connected(stack, owner, "phone") as phone,
        ):
            time.sleep(1)
            assert not program.ended
            assert not phone.ended


def test_sluices_sessions_are_out_of_reach_of_every_account(stack: Stack, database: Database) -> None:
    """Also with the very client id, a device meets a session of its own."""
    run = uuid4().hex[:8]
    [thief] = provisioned(stack, database, accounts.device(run, "thief"))
    with connected(stack, service(stack), run) as sluice:
        sluice.subscribe(f"users/{run}/config")
        with connected(stack, thief, run, clean=True) as other:
            time.sleep(1)
            assert other.present is False
            assert not sluice.ended
    with connected(stack, service(stack), run, clean=False) as sluice:
        assert sluice.present


def test_a_reload_forgets_no_session(stack: Stack, database: Database) -> None:
    """A subscriber is away, the broker starts again, and accounts change: messages published then wait."""
    run = uuid4().hex[:8]
    [device] = provisioned(stack, database, accounts.device(run, "d"))
    topic = f"users/{run}/devices/d/telemetry"
    with connected(stack, service(stack), run) as sluice:
        sluice.subscribe(topic)
    stack.restart("mosquitto")
    provisioned(stack, database, accounts.device(run, "new"))
    wanted = [str(number).encode() for number in range(20)]
    with connected(stack, device, "d") as publisher:
        for payload in wanted:
            publisher.publish(topic, payload)
    with connected(stack, service(stack), run) as sluice:
        assert sluice.present
        wait_until(lambda: len(sluice.received) >= len(wanted), 30, "what waited in the session")
        assert sluice.received == wanted


def test_a_session_outlives_a_new_password_of_its_account(stack: Stack, database: Database) -> None:
    """A subscriber is away while its password changes: what is published then is there when it returns."""
    run = uuid4().hex[:8]
    account = accounts.service(f"{run}-service")
    device, before = provisioned(stack, database, accounts.device(run, "d"), account)
    topic = f"users/{run}/devices/d/telemetry"
    with connected(stack, before, run) as sluice:
        sluice.subscribe(topic)
    [after] = provisioned(stack, database, account)
    with connected(stack, device, "d") as publisher:
        publisher.publish(topic, b"1")
    with connected(stack, after, run) as sluice:
        wait_until(lambda: sluice.received == [b"1"], 30, "what waited in the session")


def test_a_packet_above_the_limit_is_in_the_log(stack: Stack, database: Database) -> None:
    """The broker ends the connection; its log names the client, and the reason."""
    run = uuid4().hex[:8]
    [device] = provisioned(stack, database, accounts.device(run, "d"))
    with connected(stack, device, "large") as publisher:
        publisher.client.publish(f"users/{run}/devices/d/telemetry", b"x" * 1_200_000, qos=1)
        wait_until(lambda: publisher.ended, 30, "the end of the connection")
    line = f"Client {device.username}:large disconnected due to oversize packet."
    wait_until(lambda: line in stack.log("mosquitto"), 30, "the line in the log")


def test_a_denied_publish_is_found_as_the_docs_say(stack: Stack, database: Database) -> None:
    """MQTT 3.1.1 gives a device no reason; with `log_type debug`, which a reload takes in, the log does."""
    run = uuid4().hex[:8]
    [device] = provisioned(stack, database, accounts.device(run, "d"))
    file = stack.layout.conf("mosquitto") / "mosquitto.conf"
    before = file.read_text()
    wrong = f"users/{run}/devices/d/Telemetry"

    def reload(text: str) -> None:
        file.write_text(text)
        os.kill(stack.pid("mosquitto"), signal.SIGHUP)

    def denied() -> bool:
        client = Client(CallbackAPIVersion.VERSION2, client_id="wrong", protocol=MQTTProtocolVersion.MQTTv311)
        client.username_pw_set(device.username, device.password)
        client.connect(stack.env["MQTT_HOST"], int(stack.env["MQTT_PORT"]))
        client.loop_start()
        client.publish(wrong, b"{}", qos=1).wait_for_publish(30)
        client.disconnect()
        client.loop_stop()
        return f"Denied PUBLISH from {device.username}:wrong" in stack.log("mosquitto")

    assert not denied()
    try:
        reload(f"{before}log_type debug\n")
        wait_until(denied, 30, "the line in the log")
        assert wrong in stack.log("mosquitto")
    finally:
        reload(before)
