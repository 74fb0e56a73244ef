"""The load under which things break: devices that never pause, whose alerts are known beforehand."""

import json
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from ingest.loadtest.fleet.payloads import BadMessages
from tasks.rules.everyone import EVERYONE
from tests.chaos import options
from tests.integration import fleet
from tests.integration.mqtt_session import await_honoured

USERS, DEVICES_PER_USER = 3, 20
DEVICES = USERS * DEVICES_PER_USER
# Each device publishes once a tick: 300 messages a second in the whole run.
TICK_SECONDS = options.TICK_SECONDS
BAD_EVERY = 101
# Of so many readings in a row of a device the first are hot, and the last of these very hot: each time
# an alert begins, becomes worse and ends.
PERIOD, HOT, VERY_HOT = 20, 6, 3
TEMPERATURES = (20.5, 90.5, 115.5)
MODES = ("off", "eco", "boost")
# After so many changes an alert is told no more: no device is calm for a day.
CHANGES = 6
_HOT = {"key": "temperature", "operator": ">", "threshold": 80}
RULES = [
    {**_HOT, "message": "too hot"},
    {
        **_HOT,
        "id": "oven",
        "devices": "@ovens",
        "severity": "warning",
        "escalate": [{"severity": "critical", "threshold": 110}],
        "message": "the oven is too hot",
    },
    {
        **_HOT,
        "id": "flaps",
        "devices": "dev-1*",
        "flapping": {"changes": CHANGES, "minutes": 1440},
        "message": "hot again and again",
    },
    {
        **_HOT,
        "id": "limits",
        "threshold": 1000,
        "overrides": {"dev-3": {"threshold": 110}, "dev-4*": {"threshold": 100}},
        "message": "above its own limit",
    },
    {
        "id": "heating",
        "all": [{"key": "mode", "operator": "in", "threshold": ["boost", "dry"]}, _HOT],
        "message": "boost while it is hot",
    },
]
# The operator's, beside those of each user; `level` is a field of these devices alone.
OPERATORS = [
    {
        "id": "site",
        "any": [{"key": "level", "operator": ">=", "threshold": 2}],
        "for_readings": 2,
        "message": "very hot",
    }
]
# Longer than a test runs at all.
SESSION_SECONDS = 3600
MOST_TICKS = 20_000
OVENS = [f"dev-{number}" for number in range(0, DEVICES_PER_USER, 2)]
# Those with an override of the rule `limits`.
LIMITED = ["dev-3", "dev-4"]

Name = tuple[str, str]
Levels = Iterable[tuple[int, int]]
"""Of each tick in order how hot it was: 0, 1 or 2."""
Told = tuple[str, str, int]
"""A change of an alert: its rule and status, and the sequence id of the reading that caused it."""


@dataclass
class Written:
    """What a device has published: of each tick a good reading with its level of heat, or a bad message."""

    device: str = "dev-0"
    good: dict[int, int] = field(default_factory=dict)
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
        """The changes of alerts that the ticks from `first` to `last` must make, by rule and in order."""
        # A copy is made in one step; the load goes on in its thread.
        levels = list(self.good.copy().items())
        told = [("temperature", *change) for change in _begin_and_end(levels)]
        if self.device in OVENS:
            told += [("oven", *change) for change in _with_rises(levels)]
        if self.device.startswith("dev-1"):
            told += [("flaps", *change) for change in _until_it_flaps(levels)]
        very_hot = [(tick, int(level == 2)) for tick, level in levels]
        if self.device in LIMITED:
            told += [("limits", *change) for change in _begin_and_end(very_hot)]
        told += [("heating", *change) for change in _begin_and_end(very_hot)]
        told += [("operator:site", *change) for change in _begin_and_end(_twice_very_hot(levels))]
        return sorted((one for one in told if first <= one[2] <= last), key=lambda one: one[0])


def _begin_and_end(levels: Levels) -> Iterator[tuple[str, int]]:
    before = 0
    for tick, level in levels:
        if bool(level) != bool(before):
            yield "TRIGGERED" if level else "RESOLVED", tick
        before = level


def _with_rises(levels: Levels) -> Iterator[tuple[str, int]]:
    changes, highest = {tick: status for status, tick in _begin_and_end(levels)}, 0
    for tick, level in levels:
        if tick in changes:
            highest = level
            yield changes[tick], tick
        elif level > highest:
            highest = level
            yield "ESCALATED", tick


def _twice_very_hot(levels: Levels) -> Iterator[tuple[int, int]]:
    before = 0
    for tick, level in levels:
        yield tick, int(level == before == 2)
        before = level


def _until_it_flaps(levels: Levels) -> Iterator[tuple[str, int]]:
    changes = list(_begin_and_end(levels))
    yield from changes[:CHANGES]
    if len(changes) > CHANGES:
        yield "FLAPPING", changes[CHANGES][1]


class Load:
    """Devices with rules on, which publish with QoS 1 at a constant rate, in a thread of their own."""

    def __init__(self, stack: Stack, run: str, seed: int) -> None:
        self.users = [f"{run}-{user}" for user in range(USERS)]
        self.names: list[Name] = [
            (user, f"dev-{number}") for user in self.users for number in range(DEVICES_PER_USER)
        ]
        self.written: dict[Name, Written] = {name: Written(name[1]) for name in self.names}
        self.published: list[float] = []
        """When each tick was published, by the monotonic clock; the tick is the readings' sequence id."""
        self.began = datetime.now(UTC)
        self._database_url = stack.env["DATABASE_DIRECT_URL"]
        with psycopg.connect(self._database_url) as connection:
            for user, rules in ((EVERYONE, OPERATORS), *((user, RULES) for user in self.users)):
                connection.execute(
                    "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)",
                    [user, json.dumps(rules)],
                )
            connection.cursor().executemany(
                "INSERT INTO device_groups (user_id, group_name, device_id) VALUES (%s, 'ovens', %s)",
                [(user, device) for user in self.users for device in OVENS],
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
        with psycopg.connect(self._database_url) as connection:
            connection.execute("DELETE FROM user_configs WHERE user_id = %s", [EVERYONE])

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
        phase = (tick + self._offsets[number]) % PERIOD
        level = (phase < HOT) + (HOT - VERY_HOT <= phase < HOT)
        reading = {
            "sequence_id": tick,
            "time": f"{datetime.now(UTC):%FT%T.%f}Z",
            "temperature": TEMPERATURES[level],
            "level": level,
            "mode": MODES[level],
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
            written.good[tick] = level
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
            credential = provision.provision(connection, accounts.user(user))
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
                    (notice["alert_id"], notice["status"]),
                    (notice["rule_id"], notice["status"], notice["sequence_id"]),
                )
        return sorted(seen.values(), key=lambda one: one[0])

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()
