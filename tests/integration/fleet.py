"""Devices for the tests: paho clients, independent of the load tester's own."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from compose.local.stack import Stack
from ingest.admin.accounts.provision import Credential, provision_devices


@dataclass
class Device:
    """A connected device, whose messages all go to its own topic unless another is given."""

    user: str
    device: str
    client: Client
    pending: list[MQTTMessageInfo] = field(default_factory=list)

    @property
    def topic(self) -> str:
        """The device's telemetry topic."""
        return f"users/{self.user}/devices/{self.device}/telemetry"

    def publish(self, payload: bytes, topic: str | None = None) -> None:
        """Sends with QoS 1; `await_acknowledged` returns when the broker has it."""
        self.pending.append(self.client.publish(topic or self.topic, payload, qos=1))

    def await_acknowledged(self, seconds: float = 60) -> None:
        """Returns when the broker has acknowledged every message; fails when it takes longer."""
        deadline = time.monotonic() + seconds
        for info in self.pending:
            info.wait_for_publish(max(0.01, deadline - time.monotonic()))
            assert info.is_published(), f"{self.topic}: not acknowledged within {seconds} s"
        self.pending.clear()


def connect(stack: Stack, credential: Credential, client_id: str = "") -> Client:
    """A client that is let in; fails when the broker does not let it in within 30 seconds."""
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id or credential.username,
        protocol=MQTTProtocolVersion.MQTTv5,
    )
    client.max_inflight_messages_set(200)
    client.username_pw_set(credential.username, credential.password)
    # A new account is known after a moment, which is shorter than the least whole second.
    client.reconnect_delay_set(0.1, 1)  # type: ignore[arg-type]
    client.connect_async(stack.env["MQTT_HOST"], int(stack.env["MQTT_PORT"]))
    client.loop_start()
    wait_until(client.is_connected, 30, f"{credential.username} to be let in")
    return client


def devices(stack: Stack, names: Sequence[tuple[str, str]]) -> list[Device]:
    """Provisions and connects the devices, each given as user and device."""
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as connection:
        credentials = provision_devices(connection, names)
    return [
        Device(user, device, connect(stack, credential))
        for (user, device), credential in zip(names, credentials, strict=True)
    ]


def publish_traced(device: Device, payload: bytes, traceparent: str) -> None:
    """Publishes with the user property `traceparent`, and returns when the broker has the message."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = [("traceparent", traceparent)]
    device.client.publish(device.topic, payload, qos=1, properties=properties).wait_for_publish(30)


def kill(pid: int) -> None:
    """SIGKILL, and nothing that the process could do about it; one that has ended already may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal: it runs as far as it can be stopped gently."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def disconnect(fleet: Sequence[Device]) -> None:
    """Ends all connections."""
    for device in fleet:
        device.client.disconnect()
        device.client.loop_stop()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns when the condition holds; fails, naming what was awaited, when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)
