"""One simulated device: its own MQTT 5 connection, and messages that leave in order and are not given up."""

import asyncio
import random
import ssl
from collections import deque
from contextlib import suppress
from functools import cache
from itertools import count
from typing import NamedTuple, Protocol

from paho.mqtt.exception import MalformedPacket

from ingest.loadtest.fleet import packets as mqtt
from ingest.mqtt.packets import Stream
from tasks.servers.mqtt import tls_context
from tasks.settings import settings

KEEPALIVE_SECONDS = 15
CONNECT_SECONDS = 10.0
FIRST_BACK_OFF_SECONDS = 0.5
LONGEST_BACK_OFF_SECONDS = 8.0


class PendingMessage(NamedTuple):
    """A message as the device keeps it until the broker has acknowledged it."""

    sequence_id: int
    traceparent: bytes
    payload: bytes


class Listener(Protocol):
    """Receives the outcomes of a device's messages."""

    def acknowledged(self, device: "Device", sequence_id: int, *, no_subscriber: bool) -> None:
        """The broker has it (with QoS 0: the socket has it), though perhaps for nobody."""

    def refused(self, device: "Device", sequence_id: int, reason: str) -> None:
        """The broker answered that it does not take this message; it is not published again."""

    def lost_connection(self, device: "Device", unacknowledged: int) -> None:
        """A connection ended; this many messages will be published again on the next."""


class NotLetIn(ConnectionError):
    """The broker refused the connection; its words are the message."""


class Device(asyncio.Protocol):
    """Publishes to one topic over a connection that is made again, with back-off, whenever it breaks.

    Messages that the broker has not acknowledged are published again on the next connection, in order and
    before newer ones. `trouble` says why the device is not connected, if that is known.
    """

    def __init__(
        self, index: int, user: str, name: str, username: str, password: str, *, qos: int, listener: Listener
    ) -> None:
        self.index, self.user, self.name = index, user, name
        self.topic = f"users/{user}/devices/{name}/telemetry"
        self.connected = asyncio.Event()
        self.trouble = ""
        self.maximum_packet_size: int | None = None
        self._topic = mqtt.string(self.topic)
        self._username, self._password = username, password
        self._qos = qos
        self._listener = listener
        self._waiting: deque[PendingMessage] = deque()
        self._in_flight: dict[int, PendingMessage] = {}
        self._packet_ids = (number % 65_535 + 1 for number in count())
        self._receive_maximum = 0
        self._keepalive = float(KEEPALIVE_SECONDS)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[mqtt.Accepted] | None = None
        self._gone = asyncio.Event()
        self._ended = False
        self._stream = Stream()
        self._writable = True
        self._last_sent = self._last_heard = 0.0

    def add(self, message: PendingMessage) -> None:
        """Takes over a message; `flush` sends it."""
        self._waiting.append(message)

    @property
    def unacknowledged(self) -> int:
        """Messages that the broker has not acknowledged, sent or not."""
        return len(self._waiting) + len(self._in_flight)

    def flush(self) -> None:
        """Sends what may be sent: while connected, and no more than the broker wants unacknowledged."""
        if not (self.connected.is_set() and self._writable and self._waiting and self._transport):
            return
        packets = []
        while self._waiting and len(self._in_flight) < self._receive_maximum:
            message = self._waiting.popleft()
            packet_id = None
            if self._qos:
                packet_id = next(number for number in self._packet_ids if number not in self._in_flight)
                self._in_flight[packet_id] = message
            else:
                self._listener.acknowledged(self, message.sequence_id, no_subscriber=False)
            packets.append(mqtt.publish(self._topic, packet_id, message.traceparent, message.payload))
        if packets:
            self._last_sent = asyncio.get_running_loop().time()
            self._transport.write(b"".join(packets))

    def look_after(self) -> None:
        """Call about once a second: keeps the connection alive, and drops it if it has gone silent."""
        if not (self.connected.is_set() and self._transport):
            return
        now = asyncio.get_running_loop().time()
        if now - self._last_heard > 1.5 * self._keepalive:
            self.trouble = f"the broker has been silent for {now - self._last_heard:.0f} s"
            self._transport.abort()
        elif now - min(self._last_sent, self._last_heard) > 0.6 * self._keepalive:
            self._last_sent = now
            self._transport.write(mqtt.PING_PACKET)

    async def live(self, host: str, port: int, gate: asyncio.Semaphore) -> None:
        """Keeps the device connected until cancelled; `gate` limits how many connect at the same time."""
        back_off = FIRST_BACK_OFF_SECONDS
        try:
            while True:
                try:
                    async with gate:
                        await self._connect(host, port)
                    back_off = FIRST_BACK_OFF_SECONDS
                    await self._gone.wait()
                except TimeoutError:
                    self.trouble = f"no answer from {host}:{port} within {CONNECT_SECONDS:.0f} s"
                except (OSError, ValueError) as error:
                    self.trouble = getattr(error, "strerror", None) or str(error) or type(error).__name__
                # The fleet must not reconnect to a restarted broker all at the same instant.
                await asyncio.sleep(back_off * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                back_off = min(2 * back_off, LONGEST_BACK_OFF_SECONDS)
        finally:
            self._end()

    async def _connect(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._stream, self._writable = Stream(), True
        self._gone.clear()
        self._answer = loop.create_future()
        async with asyncio.timeout(CONNECT_SECONDS):
            transport, _ = await loop.create_connection(lambda: self, host, port, ssl=_tls())
            try:
                transport.write(
                    mqtt.connect(self._username, self._username, self._password, KEEPALIVE_SECONDS)
                )
                answer = await self._answer
                self._check(answer)
            except BaseException:
                transport.abort()
                raise
        self._receive_maximum = answer.receive_maximum if self._qos else 1
        self.maximum_packet_size = answer.maximum_packet_size
        self._keepalive = float(answer.keepalive or KEEPALIVE_SECONDS)
        self._last_sent = self._last_heard = loop.time()
        self.trouble = ""
        self.connected.set()
        self.flush()

    def _check(self, answer: mqtt.Accepted) -> None:
        if answer.reason >= mqtt.FAILED:
            raise NotLetIn(f"the broker answered: {mqtt.reason(mqtt.CONNACK, answer.reason)}")
        if self._transport is None:
            raise ConnectionError("the broker closed the connection")

    def _end(self) -> None:
        self._ended = True
        if self._transport is not None:
            with suppress(OSError):
                self._transport.write(mqtt.DISCONNECT_PACKET)
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        was_connected = self.connected.is_set()
        self._transport = None
        self.connected.clear()
        self.trouble = self.trouble or str(exc or "the broker closed the connection")
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(self.trouble))
        if was_connected and not self._ended:
            again = len(self._in_flight)
            self._waiting.extendleft(reversed(self._in_flight.values()))
            self._in_flight.clear()
            self._listener.lost_connection(self, again)
        self._gone.set()

    def pause_writing(self) -> None:
        """Called by asyncio."""
        self._writable = False

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._writable = True
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._last_heard = asyncio.get_running_loop().time()
        try:
            for first, body in self._stream.packets(data):
                self._handle(first & 0xF0, body)
        except (MalformedPacket, ValueError) as error:
            self.trouble = str(error)
            if self._transport is not None:
                self._transport.abort()

    def _handle(self, packet_type: int, body: bytes) -> None:
        if packet_type == mqtt.PUBACK:
            packet_id, code = mqtt.acknowledged(body)
            message = self._in_flight.pop(packet_id, None)
            if message is None:
                raise ValueError(f"the broker acknowledged packet {packet_id}, which was not sent")
            if code >= mqtt.FAILED:
                self._listener.refused(self, message.sequence_id, mqtt.reason(mqtt.PUBACK, code))
            else:
                self._listener.acknowledged(
                    self, message.sequence_id, no_subscriber=code == mqtt.NO_SUBSCRIBER
                )
            if self._waiting:
                self.flush()
        elif packet_type == mqtt.CONNACK:
            answer = mqtt.accepted(body)
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(answer)
        elif packet_type == mqtt.DISCONNECT:
            self.trouble = f"the broker answered: {mqtt.reason(mqtt.DISCONNECT, body[0] if body else 0)}"


@cache
def _tls() -> ssl.SSLContext | None:
    """One for all devices: reading the certificates takes longer than connecting."""
    return tls_context(settings())
