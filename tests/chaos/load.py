"""The load under which things break: devices that never pause, whose alerts are known beforehand."""

import json
import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from compose.local.stack import Stack
from ingest.admin import accounts
from ingest.loadtest.fleet.payloads import BadMessages
from tests.integration import fleet
from tests.integration.mqtt_session import await_honoured

USERS, DEVICES_PER_USER = 3, 20
DEVICES = USERS * DEVICES_PER_USER
# Each device publishes once a tick: 300 messages a second.
TICK_SECONDS = 0.2
BAD_EVERY = 101
# Of so many readings in a row of a device the first are hot: two changes of an alert every four seconds.
PERIOD, HOT = 20, 6
RULES = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}]
# Longer than a test runs at all.
SESSION_SECONDS = 3600
MOST_TICKS = 20_000

Name = tuple[str, str]
Told = tuple[str, int]
"""A change of an alert: its status, and the sequence id of the reading that caused it."""


@dataclass
class Written:
    """What a device has published: of each tick a good reading, hot or not, or a bad message."""

    good: dict[int, bool] = field(default_factory=dict)
    bad: dict[int, bytes] = field(default_factory=dict)
    waiting: deque[tuple[int, int]] = field(default_factory=deque)
    """Ticks with the packet ids of their messages, of which some may be in `acknowledged`."""
    acknowledged: set[int] = field(default_factory=set)
    held: deque[tuple[int, bytes]] = field(default_factory=deque)
    """Ticks with what the device keeps to itself until it can send again."""
    broken: bool = False
    """Whether the connection broke, and not all that was sent before is acknowledged yet."""

    def unacknowledged(self, tick: int) -> int:
        """Messages up to this tick that the broker has not acknowledged."""
        held = sum(number <= tick for number, _ in list(self.held))
        waiting = list(self.waiting)
        return held + sum(number <= tick and packet not in self.acknowledged for number, packet in waiting)

    def forget(self, payload: bytes) -> None:
        """The message was deleted on its way: it has no outcome."""
        for tick, bad in list(self.bad.items()):
            if bad == payload:
                del self.bad[tick]
                return
        del self.good[json.loads(payload)["sequence_id"]]

    def changes(self, first: int, last: int) -> list[Told]:
        """The changes of alerts that the ticks from `first` to `last` must make, in order."""
        told: list[Told] = []
        hot_before = False
        for tick, hot in list(self.good.items()):
            if hot != hot_before and first <= tick <= last:
                told.append(("TRIGGERED" if hot else "RESOLVED", tick))
            hot_before = hot
        return told


class Load:
    """Devices with rules on, which publish with QoS 1 at a constant rate, in a thread of their own."""

    def __init__(self, stack: Stack, run: str, seed: int) -> None:
        self.users = [f"{run}-{user}" for user in range(USERS)]
        self.names: list[Name] = [
            (user, f"dev-{number}") for user in self.users for number in range(DEVICES_PER_USER)
        ]
        self.written: dict[Name, Written] = {name: Written() for name in self.names}
        self.published: list[float] = []
        """When each tick was published, by the monotonic clock; the tick is the readings' sequence id."""
        self.began = datetime.now(UTC)
        with psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as connection:
            for user in self.users:
                connection.execute(
                    "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)",
                    [user, json.dumps(RULES)],
                )
        self._devices = fleet.devices(stack, self.names)
        for device in self._devices:
            # A packet id comes again only after 65,535 messages.
            written = self.written[device.user, device.device]
            device.client.on_publish = lambda _c, _d, packet, *_, of=written: of.acknowledged.add(packet)
            device.client.on_disconnect = lambda *_, of=written: setattr(of, "broken", True)
        self._offsets = random.Random(seed).sample(range(DEVICES), DEVICES)
        self._spoil = BadMessages(max_bytes=None, max_depth=32)
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begins to publish, once the rules are in force."""
        time.sleep(1)
        self._thread.start()

    def stop(self) -> None:
        """Ends publishing, and the devices' connections."""
        self._stopping.set()
        self._thread.join()
        fleet.disconnect(self._devices)

    @property
    def last(self) -> int:
        """The last tick that every device has published."""
        assert self._failure is None, self._failure
        return len(self.published) - 1

    @property
    def last_good(self) -> int:
        """Up to this tick, or a later one, every device has published a reading that becomes a row."""
        return min(next(reversed(written.good), -1) for written in self.written.values())

    def await_tick(self, tick: int) -> None:
        """Returns when the tick was published."""
        fleet.wait_until(lambda: self.last >= tick, 60, "the devices to publish")

    def forget(self, topic: str, payload: bytes) -> None:
        """The message of this MQTT topic needs no outcome any more."""
        _, user, _, device, _ = topic.split("/")
        self.written[user, device].forget(payload)

    def unacknowledged(self, tick: int) -> int:
        """Messages up to this tick that the MQTT broker has not acknowledged yet."""
        return sum(written.unacknowledged(tick) for written in self.written.values())

    def messages(self, first: int, last: int) -> int:
        """How many messages these ticks have."""
        return (last - first + 1) * DEVICES

    def _run(self) -> None:
        try:
            due = time.monotonic()
            for tick in range(MOST_TICKS):
                if self._stopping.is_set():
                    return
                moment = time.monotonic()
                for number, device in enumerate(self._devices):
                    self._publish(tick, number, device)
                self.published.append(moment)
                due = max(due + TICK_SECONDS, moment)
                time.sleep(max(0.0, due - time.monotonic()))
        except Exception as error:  # noqa: BLE001 - told by `last` in the thread of the test
            self._failure = error

    def _publish(self, tick: int, number: int, device: fleet.Device) -> None:
        written = self.written[device.user, device.device]
        hot = (tick + self._offsets[number]) % PERIOD < HOT
        reading = {
            "sequence_id": tick,
            "time": f"{datetime.now(UTC):%FT%T.%f}Z",
            "temperature": 90.5 if hot else 20.5,
            "battery": number,
            "rssi": -number - 1,
            "location": {"lat": 1.0, "lon": 2.0},
            "name": f"pump {tick}/{number}",
        }
        payload = json.dumps(reading).encode()
        if (tick * DEVICES + number) % BAD_EVERY == 0:
            _, payload = self._spoil.next(payload)
            written.bad[tick] = payload
        else:
            written.good[tick] = hot
        written.held.append((tick, payload))
        self._send(written, device)

    def _send(self, written: Written, device: fleet.Device) -> None:
        while written.waiting and written.waiting[0][1] in written.acknowledged:
            written.waiting.popleft()
        written.broken = written.broken and bool(written.waiting)
        # After a break paho sends again what was on its way, and what is new may get ahead of that.
        if not device.client.is_connected() or written.broken:
            return
        while written.held:
            tick, payload = written.held[0]
            written.waiting.append((tick, device.client.publish(device.topic, payload, qos=1).mid))
            written.held.popleft()


class Listener:
    """A user whose session the broker keeps while the connection is broken, so that no notice is missed."""

    def __init__(self, stack: Stack, user: str) -> None:
        with psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as connection:
            credential = accounts.provision(connection, accounts.user(user))
        await_honoured(stack, credential)
        self.notices: list[dict[str, Any]] = []
        subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=f"{user}-listens", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.username_pw_set(credential.username, credential.password)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: subscribed.set()
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = SESSION_SECONDS
        self._client.connect(
            stack.env["MQTT_HOST"], int(stack.env["MQTT_PORT"]), clean_start=False, properties=session
        )
        self._client.loop_start()
        self._client.subscribe(f"users/{user}/alerts", qos=1)
        assert subscribed.wait(10)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.notices.append(json.loads(message.payload))

    def told(self, device: str, first: int, last: int) -> list[Told]:
        """What these ticks of the device made known, each change where it came first."""
        seen: dict[tuple[str, str], Told] = {}
        for notice in list(self.notices):
            if notice["device_id"] == device and first <= notice["sequence_id"] <= last:
                seen.setdefault(
                    (notice["alert_id"], notice["status"]), (notice["status"], notice["sequence_id"])
                )
        return list(seen.values())

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()
