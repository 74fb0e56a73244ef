"""A TCP proxy whose network can stall, delay, and lose packets."""

import asyncio
import ctypes
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakSet

Result = TypeVar("Result")

# From Linux's headers; Python has no names for them.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
LOAD_ABSOLUTE, JUMP_IF_GREATER_OR_EQUAL, RETURN = 0x20, 0x35, 0x06
A_RANDOM_NUMBER = 0xFFFFF000 + 56
WHOLE, NOTHING = 0xFFFFFFFF, 0


class Way:
    """One direction of all connections."""

    def __init__(self) -> None:
        self.flows = asyncio.Event()
        self.flows.set()
        self.late_seconds = 0.0


class Proxy:
    """Forwards connections to a port of an address of this machine, by default the one that it has itself.

    A stalled one loses nothing: what was sent meanwhile arrives when it flows again, as after lost packets.
    """

    def __init__(
        self, target: int, address: str = "127.0.0.1", port: int = 0, *, target_address: str = ""
    ) -> None:
        self._target = (target_address or address, target)
        self._loop = asyncio.new_event_loop()
        self._there, self._back = Way(), Way()
        self._lost = 0.0
        # One that is closed is here until the last of its bytes is sent.
        self._transports: WeakSet[asyncio.WriteTransport] = WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, address, port))
        self.port = int(self._server.sockets[0].getsockname()[1])

    def stall(self, *, there: bool = True, back: bool = True) -> None:
        """Nothing arrives any more at the target, or from it, on connections old and new."""
        for way, stalls in ((self._there, there), (self._back, back)):
            if stalls:
                self._loop.call_soon_threadsafe(way.flows.clear)

    def delay(self, seconds: float, *, there: bool = True, back: bool = True) -> None:
        """What is sent arrives later, in order, at the target, or from it."""
        for way, late in ((self._there, there), (self._back, back)):
            if late:
                way.late_seconds = seconds

    def lose(self, share: float) -> None:
        """Such a share of the packets from either end is lost, on connections old and new.

        The kernel drops them before TCP sees them, so TCP does what it does on a bad line.
        """
        self._run(self._lose(share))

    def flow(self) -> None:
        """What was held back arrives, and all that follows at once and whole."""
        for way in (self._there, self._back):
            way.late_seconds = 0.0
            self._loop.call_soon_threadsafe(way.flows.set)
        if self._lost:
            self.lose(0)

    def close(self) -> None:
        """Ends all connections."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Awaitable[Result]) -> Result:
        async def awaited() -> Result:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(10)

    async def _lose(self, share: float) -> None:
        self._lost = share
        # What listens, too: the packets that open a connection may be lost as any other.
        sockets = [*self._server.sockets, *(one.get_extra_info("socket") for one in self._transports)]
        for one in sockets:
            _drop(one, share)

    async def _end(self) -> None:
        self._server.close()
        # Also those of connections that are being accepted just now; each new one may have begun another.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others)
        for transport in list(self._transports):
            transport.abort()
        # An aborted connection is closed in the next turn of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _add(self, transport: asyncio.WriteTransport) -> None:
        self._transports.add(transport)
        # One that was accepted has the filter of the moment at which it came.
        _drop(transport.get_extra_info("socket"), self._lost)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._add(writer.transport)
        # The loop knows its tasks by weak references only.
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await self._there.flows.wait()
            await self._connect(reader, writer)
        writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._add(there_writer.transport)
        ways = [
            asyncio.create_task(self._forward(reader, there_writer, self._there)),
            asyncio.create_task(self._forward(there_reader, writer, self._back)),
        ]
        try:
            # Nobody here closes one direction only.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            there_writer.close()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        late: deque[bytes] = deque()
        seconds = 0.0

        def deliver() -> None:
            writer.write(late.popleft())

        with suppress(OSError):
            while data := await reader.read(262_144):
                await way.flows.wait()
                if way.late_seconds or late:
                    late.append(data)
                    seconds = max(seconds, way.late_seconds)
                    self._loop.call_later(way.late_seconds, deliver)
                else:
                    writer.write(data)
                await writer.drain()
        if late:
            await asyncio.sleep(seconds)


def _drop(connection: Any, share: float) -> None:
    """The kernel drops such a share of the packets that arrive at the socket; 0 means none any more."""
    if not share:
        with suppress(OSError):  # it has none
            connection.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        return
    steps = [
        (LOAD_ABSOLUTE, 0, 0, A_RANDOM_NUMBER),
        (JUMP_IF_GREATER_OR_EQUAL, 0, 1, int(share * 2**32)),
        (RETURN, 0, 0, WHOLE),
        (RETURN, 0, 0, NOTHING),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    described = struct.pack("HL", len(steps), ctypes.addressof(program))
    with suppress(OSError):  # it was closed a moment ago
        connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)
