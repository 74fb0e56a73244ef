"""A TCP proxy whose network can stall: it goes on accepting, and forwards nothing."""

import asyncio
import threading
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar
from weakref import WeakSet

Result = TypeVar("Result")


class Proxy:
    """Forwards connections to a port of an address of this machine, by default the one that it has itself.

    A stalled one loses nothing: what was sent meanwhile arrives when it flows again, as after lost packets.
    """

    def __init__(
        self, target: int, address: str = "127.0.0.1", port: int = 0, *, target_address: str = ""
    ) -> None:
        self._target = (target_address or address, target)
        self._loop = asyncio.new_event_loop()
        self._there, self._back = asyncio.Event(), asyncio.Event()
        self._there.set()
        self._back.set()
        # One that is closed is here until the last of its bytes is sent.
        self._transports: WeakSet[asyncio.WriteTransport] = WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, address, port))
        self.port = int(self._server.sockets[0].getsockname()[1])

    def stall(self, *, there: bool = True, back: bool = True) -> None:
        """Nothing arrives any more at the target, or from it, on connections old and new."""
        for direction, stalls in ((self._there, there), (self._back, back)):
            if stalls:
                self._loop.call_soon_threadsafe(direction.clear)

    def flow(self) -> None:
        """What was held back arrives, and all that follows."""
        for direction in (self._there, self._back):
            self._loop.call_soon_threadsafe(direction.set)

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

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._transports.add(writer.transport)
        # The loop knows its tasks by weak references only.
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await self._there.wait()
            await self._connect(reader, writer)
        writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._transports.add(there_writer.transport)
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

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(262_144):
                await flows.wait()
                writer.write(data)
                await writer.drain()
