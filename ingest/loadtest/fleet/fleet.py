"""A fleet of simulated devices that publishes at a constant rate, all in one event loop."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Protocol

from ingest.loadtest.fleet.device import Device, PendingMessage
from ingest.loadtest.fleet.payloads import BadMessages, Clock, Readings, TimeText

TICK_SECONDS = 0.01
CONNECTING_AT_ONCE = 50
FEWEST_UNACKNOWLEDGED = 1_000
UNACKNOWLEDGED_SECONDS = 30
"""As many seconds' worth of unacknowledged messages are kept; then none are made until the broker answers."""


class Login(NamedTuple):
    """A device and what it logs in with."""

    user: str
    device: str
    username: str
    password: str


@dataclass(frozen=True)
class Mix:
    """The fleet's messages: the shares of bad messages and of readings that violate a rule, both 0 to 1."""

    bad_ratio: float = 0.0
    violating_ratio: float = 0.0
    payload_max_bytes: int | None = 262_144
    payload_max_depth: int = 32
    seed: int = 1


@dataclass
class Totals:
    """The counts of the fleet so far."""

    published: int = 0
    """Messages made and handed to a device, each counted once."""
    acknowledged: int = 0
    refused: int = 0
    no_subscriber: int = 0
    published_again: int = 0
    """Messages that were on a connection when it broke, counted at each time."""
    reconnects: int = 0
    not_made: int = 0
    """Messages that were due and not made: the fleet was behind, or too much was unacknowledged."""


class Recorder(Protocol):
    """Receives every message, for a comparison afterwards."""

    def published(self, device: Device, message: PendingMessage, microseconds: int, bad: str | None) -> None:
        """The device took over the message; `bad` is the name of what is wrong with it."""

    def acknowledged(self, device: Device, sequence_id: int) -> None:
        """The broker has it."""

    def refused(self, device: Device, sequence_id: int, reason: str) -> None:
        """The broker does not take it."""


class Schedule:
    """Says how many messages are due: a constant rate without bursts.

    A message that is not made within `slack` seconds of its time is not made later; `missed` counts it.
    """

    def __init__(self, rate: float, start: float, slack: float = 0.1) -> None:
        self._rate, self._start = rate, start
        self._most = max(1, ceil(rate * slack))
        self._given = 0
        self.missed = 0

    def due(self, now: float, room: int | None = None) -> int:
        """How many to make now, at most `room`; those that do not fit are missed."""
        open_ = int((now - self._start) * self._rate) - self._given - self.missed
        give = min(open_, self._most)
        self.missed += open_ - give
        if room is not None and give > room:
            self.missed += give - max(room, 0)
            give = max(room, 0)
        self._given += give
        return give


class Fleet:
    """The devices of `logins`, publishing together `rate` messages per second.

    Each device's messages carry the sequence ids 1, 2, 3 … and leave in that order. Use: `connect`, then
    `run` once or more, then `drain`, then `close`; `close` may come at any time.
    """

    def __init__(
        self,
        logins: Sequence[Login],
        *,
        rate: float,
        qos: int,
        mix: Mix,
        recorder: Recorder | None = None,
        trace_ratio: float = 0.0,
    ) -> None:
        self.totals = Totals()
        self._rate = rate
        self._recorder = recorder
        self._mix = mix
        self._rng = random.Random(mix.seed)  # noqa: S311 - readings are not secret
        self.devices = [
            Device(index, *login[:2], *login[2:], qos=qos, listener=self)
            for index, login in enumerate(logins)
        ]
        time_text = TimeText()
        self._readings = [Readings(device.name, self._rng, time_text) for device in self.devices]
        self._sequence_ids = [0] * len(self.devices)
        self._bad = BadMessages(mix.payload_max_bytes, mix.payload_max_depth)
        self._clock = Clock()
        self._trace_below = trace_ratio * (1 << 32)
        self._trace_run = b"%016x" % self._rng.getrandbits(64)
        self._trace_count = itertools.count(self._rng.getrandbits(62) + 1)
        self._tasks: list[asyncio.Task[None]] = []
        self._broken: BaseException | None = None
        self._stopped = False

    async def connect(self, host: str, port: int, patience: float) -> None:
        """Connects all devices.

        Raises `ConnectionError` with a reason when some are not in after `patience` seconds; until then
        they try again, since fresh credentials take a moment to reach the broker.
        """
        gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        for life in [*(device.live(host, port, gate) for device in self.devices), self._look_after()]:
            task = asyncio.create_task(life)
            task.add_done_callback(self._note_end)
            self._tasks.append(task)
        try:
            async with asyncio.timeout(patience):
                for device in self.devices:
                    await device.connected.wait()
        except TimeoutError as error:
            away = [device for device in self.devices if not device.connected.is_set()]
            raise ConnectionError(
                f"{len(away)} of {len(self.devices)} devices could not connect to {host}:{port} within "
                f"{patience:.0f} s: {away[0].trouble if away else 'the last one was late'}"
            ) from error
        self._leave_out_what_the_broker_cannot_carry()

    def _leave_out_what_the_broker_cannot_carry(self) -> None:
        largest = min((device.maximum_packet_size or 1 << 28 for device in self.devices), default=1 << 28)
        too_large = self._mix.payload_max_bytes
        if too_large is not None and too_large + 2_000 > largest:
            self._bad = BadMessages(None, self._mix.payload_max_depth)

    async def run(self, seconds: float | None, *, on_tick: Callable[[], None] | None = None) -> float:
        """Publishes for this many seconds, or until `stop`. Returns how long it really took."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        schedule = Schedule(self._rate, start)
        missed_before = self.totals.not_made
        keep = max(FEWEST_UNACKNOWLEDGED, int(UNACKNOWLEDGED_SECONDS * self._rate))
        turn = itertools.cycle(self._rng.sample(self.devices, len(self.devices)))
        self._stopped = False
        while not self._stopped and (seconds is None or loop.time() - start < seconds):
            number = schedule.due(loop.time(), keep - self.unacknowledged)
            self.totals.not_made = missed_before + schedule.missed
            touched = list(itertools.islice(turn, number))
            for device in touched:
                self._make(device)
            for device in touched:
                device.flush()
            if on_tick is not None:
                on_tick()
            self._check()
            await asyncio.sleep(TICK_SECONDS)
        return loop.time() - start

    def stop(self) -> None:
        """Ends `run` at its next tick."""
        self._stopped = True

    async def drain(self, patience: float) -> bool:
        """Waits until the broker has answered everything, and no longer than `patience` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while self.unacknowledged and loop.time() < end:
            self._check()
            await asyncio.sleep(0.05)
        return not self.unacknowledged

    async def close(self) -> None:
        """Disconnects all devices."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @property
    def unacknowledged(self) -> int:
        """Messages made that the broker has not answered."""
        return self.totals.published - self.totals.acknowledged - self.totals.refused

    @property
    def connected(self) -> int:
        """Devices that have a connection."""
        return sum(device.connected.is_set() for device in self.devices)

    def troubles(self) -> list[str]:
        """Why devices are not connected, each reason once."""
        return sorted({d.trouble for d in self.devices if not d.connected.is_set() and d.trouble})

    def _make(self, device: Device) -> None:
        sequence_id = self._sequence_ids[device.index] = self._sequence_ids[device.index] + 1
        microseconds = self._clock.next()
        mix, chance = self._mix, self._rng.random()
        violating = mix.bad_ratio <= chance < mix.bad_ratio + mix.violating_ratio
        payload = self._readings[device.index].good(sequence_id, microseconds, violating=violating)
        bad = None
        if chance < mix.bad_ratio:
            bad, payload = self._bad.next(payload)
        number = next(self._trace_count)
        # Spreads the numbers evenly, so that the same share of any stretch of messages is sampled.
        sampled = number * 2_654_435_761 % (1 << 32) < self._trace_below
        traceparent = b"00-%s%016x-%016x-%02x" % (self._trace_run, number, number, sampled)
        message = PendingMessage(sequence_id, traceparent, payload)
        self.totals.published += 1
        if self._recorder is not None:
            self._recorder.published(device, message, microseconds, bad)
        device.add(message)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._broken = self._broken or task.exception()

    def _check(self) -> None:
        # A device whose task died would be silent for the rest of the run, and the result would be wrong.
        if self._broken is not None:
            raise self._broken

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for device in self.devices:
                device.look_after()

    def acknowledged(self, device: Device, sequence_id: int, *, no_subscriber: bool) -> None:
        """Called by the devices."""
        self.totals.acknowledged += 1
        self.totals.no_subscriber += no_subscriber
        if self._recorder is not None:
            self._recorder.acknowledged(device, sequence_id)

    def refused(self, device: Device, sequence_id: int, reason: str) -> None:
        """Called by the devices."""
        self.totals.refused += 1
        if self._recorder is not None:
            self._recorder.refused(device, sequence_id, reason)

    def lost_connection(self, device: Device, unacknowledged: int) -> None:  # noqa: ARG002
        """Called by the devices."""
        self.totals.reconnects += 1
        self.totals.published_again += unacknowledged
