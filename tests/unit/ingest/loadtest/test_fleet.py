"""The simulated fleet: messages that are what they are meant to be, at a constant rate, never given up."""

import asyncio
import random
import struct
from collections.abc import Awaitable, Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.loadtest.fleet import packets
from ingest.loadtest.fleet.device import Device, PendingMessage
from ingest.loadtest.fleet.fleet import Fleet, Login, Mix, Schedule
from ingest.loadtest.fleet.payloads import NORMAL, VIOLATING, BadMessages, Clock, Readings, TimeText
from ingest.mqtt.packets import Stream
from tasks.domain.payload import ErrorType, Limits, Refused
from tasks.telemetry import DOMAIN

TOPIC = "users/u/devices/d/telemetry"
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW_US = 1_767_225_600_123_456


def good(sequence_id: int = 17, *, violating: bool = False, seed: int = 1) -> bytes:
    """A reading of a device."""
    return Readings("d", random.Random(seed), TimeText()).good(sequence_id, NOW_US, violating=violating)


@given(st.integers(1, 2**40), st.integers(0, 4_000_000_000_000_000), st.integers(), st.booleans())
def test_a_good_reading_becomes_a_row(
    sequence_id: int, microseconds: int, seed: int, violating: bool
) -> None:
    """The pipeline accepts every good reading, with the sequence id and the time that it was given."""
    readings = Readings("d", random.Random(seed), TimeText())
    reading = DOMAIN.validate(
        TOPIC, readings.good(sequence_id, microseconds, violating=violating), 0, Limits()
    )
    assert reading.fields.sequence_id == sequence_id
    assert reading.fields.time is not None
    assert round(reading.fields.time.timestamp() * 1e6) == microseconds
    low, high = VIOLATING if violating else NORMAL
    assert reading.fields.temperature is not None
    assert low <= reading.fields.temperature < high + 1


def test_a_reading_has_the_size_of_a_real_one() -> None:
    """About 250 bytes, with letters of several scripts."""
    assert 200 <= len(good()) <= 320
    assert not good().isascii()


def test_every_bad_message_is_refused() -> None:
    """Each way of being bad is refused by the pipeline, the large one too."""
    limits = Limits()
    bad = BadMessages(limits.max_bytes, limits.max_depth)
    seen = set()
    for _ in bad.names():
        name, payload = bad.next(good())
        seen.add(name)
        with pytest.raises(Refused):
            DOMAIN.validate(TOPIC, payload, 0, limits)
    assert seen == set(bad.names())


def test_bad_messages_cover_every_reason() -> None:
    """Every reason that a payload can be refused for has a bad message; a device cannot choose its topic."""
    limits = Limits()
    bad = BadMessages(limits.max_bytes, limits.max_depth)
    reasons = set()
    for _ in bad.names():
        with pytest.raises(Refused) as refused:
            DOMAIN.validate(TOPIC, bad.next(good())[1], 0, limits)
        reasons.add(refused.value.error_type)
    others = {"InvalidTopic", "UnknownOwner", "RateLimited", "InvalidEncoding"}
    assert reasons == set(get_args(ErrorType)) - others


def test_bad_messages_can_be_told_apart() -> None:
    """No two bad messages of a device have the same bytes, in whichever way they are bad."""
    bad = BadMessages(None, 32)
    readings, clock = Readings("d", random.Random(1), TimeText()), Clock()
    payloads = [bad.next(readings.good(number, clock.next()))[1] for number in range(1, 200)]
    assert len(set(payloads)) == len(payloads)


def test_the_clock_never_repeats() -> None:
    """Two messages never carry the same time, even if the machine's clock stands still or goes back."""
    times = iter([5_000, 5_000, 3_000, 9_000])
    clock = Clock(lambda: next(times))
    assert [clock.next() for _ in range(4)] == [5, 6, 7, 9]


@given(st.floats(0.5, 20_000), st.lists(st.floats(0.001, 0.05), min_size=1, max_size=100), st.floats(0, 1e6))
def test_a_schedule_keeps_its_rate(rate: float, steps: list[float], start: float) -> None:
    """When asked often enough, a schedule has always given what the rate says, and has missed nothing."""
    schedule = Schedule(rate, start)
    given_, now = 0, start
    for step in steps:
        now += step
        given_ += schedule.due(now)
        assert given_ <= (now - start) * rate
        assert given_ > (now - start) * rate - 1 - 1e-6 * rate
    assert schedule.missed == 0


def test_a_late_schedule_makes_no_burst() -> None:
    """A message that is late by more than the slack is missed, not made up for in a burst."""
    schedule = Schedule(1000, 0.0, slack=0.1)
    assert schedule.due(5.0) == 100
    assert schedule.missed == 4900
    assert schedule.due(5.01) == 10


def test_a_schedule_without_room_waits() -> None:
    """A message that finds no room is missed, and nothing negative is ever due."""
    schedule = Schedule(1000, 0.0)
    assert schedule.due(0.05, room=20) == 20
    assert schedule.due(0.06, room=-5) == 0
    assert schedule.missed == 40


@given(st.integers(0, (1 << 28) - 1))
def test_lengths_are_read_as_written(number: int) -> None:
    """A length takes at most four bytes, seven bits each, the lowest first."""
    written = packets.length(number)
    assert len(written) <= 4
    assert sum((byte & 127) << 7 * at for at, byte in enumerate(written)) == number
    assert [byte >> 7 for byte in written] == [1] * (len(written) - 1) + [0]


class Broker:
    """As much of a broker as a device meets; acknowledges at once, or as often as `acknowledge` says."""

    def __init__(self, acknowledge: int | None = None) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.connections = 0
        self.receive_maximum = 10
        self.acknowledge = acknowledge
        self.refuse = 0
        self.most_unacknowledged = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Broker":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop()

    def drop(self) -> None:
        """Breaks all connections."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        stream, unacknowledged = Stream(), 0
        while data := await reader.read(65_536):
            for first, body in stream.packets(data):
                if first & 0xF0 == 0x10:
                    self.connections += 1
                    reason, self.refuse = (0x87, self.refuse - 1) if self.refuse else (0, 0)
                    answer = bytes((0, reason, 3, 0x21)) + struct.pack("!H", self.receive_maximum)
                    writer.write(b"\x20" + packets.length(len(answer)) + answer)
                elif first & 0xF0 == 0x30:
                    unacknowledged += 1
                    self.most_unacknowledged = max(self.most_unacknowledged, unacknowledged)
                    packet_id = self._note(body)
                    if self.acknowledge is None or self.acknowledge > 0:
                        self.acknowledge = None if self.acknowledge is None else self.acknowledge - 1
                        unacknowledged -= 1
                        writer.write(b"\x40\x02" + packet_id)

    def _note(self, body: bytes) -> bytes:
        size = body[0] << 8 | body[1]
        properties = body[2 + size + 2]
        self.received.append((body[2 : 2 + size].decode(), body[2 + size + 3 + properties :]))
        return body[2 + size : 4 + size]


class Heard:
    """A device's listener that writes down what it hears."""

    def __init__(self) -> None:
        self.acknowledged_ids: list[int] = []
        self.lost: list[int] = []

    def acknowledged(self, device: Device, sequence_id: int, *, no_subscriber: bool) -> None:  # noqa: ARG002
        """Called by the device."""
        assert not no_subscriber
        self.acknowledged_ids.append(sequence_id)

    def refused(self, device: Device, sequence_id: int, reason: str) -> None:  # noqa: ARG002
        """Called by the device."""
        raise AssertionError(reason)

    def lost_connection(self, device: Device, unacknowledged: int) -> None:  # noqa: ARG002
        """Called by the device."""
        self.lost.append(unacknowledged)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for the condition, some seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - conditions of several kinds
            await asyncio.sleep(0.005)


def with_device(
    scenario: Callable[[Device, Broker, Heard], Awaitable[None]], acknowledge: int | None = None
) -> None:
    """Runs the scenario with a device that lives, and its broker."""

    async def go() -> None:
        async with Broker(acknowledge) as broker:
            heard = Heard()
            device = Device(0, "u", "d", "u/d", "secret", qos=1, listener=heard)
            life = asyncio.create_task(device.live("127.0.0.1", broker.port, asyncio.Semaphore(1)))
            try:
                await scenario(device, broker, heard)
            finally:
                life.cancel()
                await asyncio.gather(life, return_exceptions=True)

    asyncio.run(go())


def test_a_device_publishes_in_order() -> None:
    """Messages arrive at the device's topic in order, and each is acknowledged once."""

    async def scenario(device: Device, broker: Broker, heard: Heard) -> None:
        await device.connected.wait()
        for number in range(1, 101):
            device.add(PendingMessage(number, TRACE, b"%d" % number))
        device.flush()
        await until(lambda: len(heard.acknowledged_ids) == 100)
        assert broker.received == [(TOPIC, b"%d" % number) for number in range(1, 101)]
        assert heard.acknowledged_ids == list(range(1, 101))
        assert broker.most_unacknowledged <= broker.receive_maximum

    with_device(scenario)


def test_a_broken_connection_loses_nothing() -> None:
    """Unacknowledged messages are published again on the next connection, in order and before newer ones."""

    async def scenario(device: Device, broker: Broker, heard: Heard) -> None:
        await device.connected.wait()
        for number in range(1, 6):
            device.add(PendingMessage(number, TRACE, b"%d" % number))
        device.flush()
        await until(lambda: len(broker.received) == 5 and len(heard.acknowledged_ids) == 2)
        broker.drop()
        await until(lambda: bool(heard.lost))
        device.add(PendingMessage(6, TRACE, b"6"))
        broker.acknowledge = None
        await until(lambda: device.unacknowledged == 0)
        assert heard.lost == [3]
        assert heard.acknowledged_ids == [1, 2, 3, 4, 5, 6]
        assert b"".join(payload for _, payload in broker.received) == b"123453456"

    with_device(scenario, acknowledge=2)


def test_a_refused_login_is_tried_again() -> None:
    """A device whose login the broker does not know yet tries again, and meanwhile reports its answer."""

    async def scenario(device: Device, broker: Broker, _: Heard) -> None:
        broker.refuse = 1
        await until(lambda: bool(device.trouble))
        assert "Not authorized" in device.trouble
        await device.connected.wait()
        assert broker.connections == 2
        assert device.trouble == ""

    with_device(scenario)


def test_a_fleet_publishes_each_message_once() -> None:
    """Each device's sequence ids are 1, 2, 3 … without a gap, and all that was published is acknowledged."""

    async def go() -> None:
        async with Broker() as broker:
            fleet = Fleet(
                [Login("u", f"d{number}", "x", "secret") for number in range(4)],
                rate=2000,
                qos=1,
                mix=Mix(bad_ratio=0.3, payload_max_bytes=1000),
            )
            try:
                await fleet.connect("127.0.0.1", broker.port, 5)
                seconds = await fleet.run(1)
                assert await fleet.drain(5)
            finally:
                await fleet.close()
            assert fleet.totals.published == fleet.totals.acknowledged == len(broker.received)
            assert fleet.totals.published + fleet.totals.not_made <= seconds * 2000
            assert fleet.totals.published > 0.1 * 2000
            counts = {topic: 0 for topic, _ in broker.received}
            for topic, _ in broker.received:
                counts[topic] += 1
            assert len(counts) == 4
            assert max(counts.values()) - min(counts.values()) <= 1

    asyncio.run(go())


def test_a_fleet_that_is_not_let_in_says_why() -> None:
    """Without a connection in time, the error has the broker's own words."""

    async def go() -> None:
        async with Broker() as broker:
            broker.refuse = 100
            fleet = Fleet([Login("u", "d", "x", "secret")], rate=1, qos=1, mix=Mix())
            with pytest.raises(ConnectionError, match="Not authorized"):
                await fleet.connect("127.0.0.1", broker.port, 3)
            await fleet.close()

    asyncio.run(go())
