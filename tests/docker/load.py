"""Devices that publish without a pause while things break, and what became of their readings."""

import json
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import psycopg
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.docker.command import Failed, expect, wait_until

USER = "load"
DEVICES = tuple(f"device{number}" for number in range(8))
TICK_SECONDS = 0.1
# After this long a reading that is not a row is called lost.
PATIENCE_SECONDS = 180.0
ACKNOWLEDGED_SECONDS = 60.0

Connection = psycopg.Connection[tuple[Any, ...]]

_COUNT = """
SELECT count(*), count(DISTINCT sequence_id) FROM raw_telemetry
WHERE user_id = %s AND device_id = %s AND sequence_id < %s
"""


class Stack(Protocol):
    """What is put under load, as it is reached from this machine."""

    def broker(self, *, tls: bool = False) -> tuple[str, int]:
        """The host and the port of MQTT."""

    def database(self) -> AbstractContextManager[Connection]:
        """The database as its superuser."""


@dataclass(frozen=True)
class Account:
    """How a device or a user logs in."""

    username: str
    password: str


@dataclass(frozen=True)
class Outcome:
    """The fate of the messages up to a moment."""

    messages: int
    lost: int
    doubled: int

    def __str__(self) -> str:
        return f"{self.lost} lost, {self.doubled} doubled of {self.messages:,}"


def connect(stack: Stack, account: Account, *, authority: Path | None = None, name: str = "") -> Client:
    """A client that is let in, by TLS where an authority vouches for the broker's certificate.

    Raises `Failed` when the broker does not let it in within 30 s.
    """
    client = Client(
        CallbackAPIVersion.VERSION2, client_id=name or account.username, protocol=MQTTProtocolVersion.MQTTv5
    )
    client.username_pw_set(account.username, account.password)
    client.reconnect_delay_set(1, 1)
    client.max_inflight_messages_set(200)
    if authority:
        client.tls_set(ca_certs=str(authority))
    client.connect_async(*stack.broker(tls=authority is not None))
    client.loop_start()
    try:
        wait_until(client.is_connected, 30, f"the broker to let {account.username} in")
    except Failed:
        client.loop_stop()
        raise
    return client


def disconnect(client: Client) -> None:
    """Ends the connection."""
    client.disconnect()
    client.loop_stop()


def topic(user: str, device: str) -> str:
    """The device's telemetry topic."""
    return f"users/{user}/devices/{device}/telemetry"


def reading(number: int, temperature: float = 20.5) -> bytes:
    """A reading of this moment."""
    time_ = f"{datetime.now(UTC):%FT%T.%f}Z"
    return json.dumps({"sequence_id": number, "time": time_, "temperature": temperature}).encode()


def send(client: Client, to: str, payload: bytes) -> None:
    """Publishes with QoS 1, and returns when the broker has taken it. Raises `Failed`."""
    refusals: list[str] = []
    client.on_publish = lambda *told: refusals.append(str(told[3])) if told[3].is_failure else None
    info = client.publish(to, payload, qos=1)
    info.wait_for_publish(30)
    expect(info.is_published(), f"the broker did not acknowledge a message to {to} within 30 s")
    expect(not refusals, f"the broker refuses a message to {to}: {refusals}")


class Load:
    """Each device numbers its readings from 0, so what is missing or there twice is seen by counting."""

    def __init__(self, stack: Stack, accounts: Mapping[str, Account]) -> None:
        self._stack = stack
        self._clients = {device: connect(stack, accounts[device]) for device in DEVICES}
        self._sent = dict.fromkeys(DEVICES, 0)
        self._acknowledged = dict.fromkeys(DEVICES, 0)
        for device, client in self._clients.items():
            client.on_publish = lambda *_, of=device: self._note(of)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def sent(self) -> dict[str, int]:
        """How many readings each device has published by now."""
        return dict(self._sent)

    def await_stored(self, seconds: float) -> float:
        """Waits for rows of readings that are published from now on; returns how many seconds it took."""
        marks = self.sent()

        def stored() -> bool:
            try:
                with self._stack.database() as connection:
                    return all(_has(connection, device, number) for device, number in marks.items())
            except Exception:  # noqa: BLE001 - the database may be what was broken
                return False

        return wait_until(stored, seconds, "rows of readings after the break")

    def settle(self) -> Outcome:
        """Waits until everything published up to now is a row, or for `PATIENCE_SECONDS`."""
        marks = self.sent()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with self._stack.database() as connection:
                found = {device: _count(connection, device, number) for device, number in marks.items()}
            rows = sum(rows for rows, _ in found.values())
            distinct = sum(distinct for _, distinct in found.values())
            if distinct == sum(marks.values()) or time.monotonic() > deadline:
                return Outcome(sum(marks.values()), sum(marks.values()) - distinct, rows - distinct)
            time.sleep(0.5)

    def stop(self) -> None:
        """Ends publishing, when the broker has everything, and the connections. Raises `Failed`."""
        self._stopping.set()
        self._thread.join()
        try:
            wait_until(
                lambda: self._acknowledged == self._sent,
                ACKNOWLEDGED_SECONDS,
                "the broker to acknowledge all",
            )
        finally:
            for client in self._clients.values():
                disconnect(client)

    def _note(self, device: str) -> None:
        self._acknowledged[device] += 1

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            for device, client in self._clients.items():
                # Without a connection the client keeps it, and sends it when it has one again.
                client.publish(topic(USER, device), reading(self._sent[device]), qos=1)
                self._sent[device] += 1
            due = max(due + TICK_SECONDS, time.monotonic())
            self._stopping.wait(due - time.monotonic())


def _count(connection: Connection, device: str, number: int) -> tuple[int, int]:
    row = connection.execute(_COUNT, [USER, device, number]).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _has(connection: Connection, device: str, number: int) -> bool:
    query = "SELECT FROM raw_telemetry WHERE user_id = %s AND device_id = %s AND sequence_id >= %s LIMIT 1"
    return connection.execute(query, [USER, device, number]).fetchone() is not None
