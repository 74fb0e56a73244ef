"""A TCP proxy whose network can stall: it goes on accepting, and forwards nothing."""

import asyncio
import threading
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar
from weakref import WeakSet

Result = TypeVar("Result")


class Proxy:
    """Forwards connections to a port of an address of this machine; `port` is its own, at the same address.

    A stalled one loses nothing: what was sent meanwhile arrives when it flows again, as after lost packets.
    """

    def __init__(self, target: int, address: str = "127.0.0.1", port: int = 0) -> None:
        self._target = (address, target)
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        # One that is closed is here until the last of its bytes is sent.
        self._transports: WeakSet[asyncio.WriteTransport] = WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, address, port))
        self.port = int(self._server.sockets[0].getsockname()[1])

    def stall(self) -> None:
        """Nothing arrives any more, on connections old and new."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        """What was held back arrives, and all that follows."""
        self._loop.call_soon_threadsafe(self._flows.set)

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
            await self._flows.wait()
            await self._connect(reader, writer)
        writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._transports.add(there_writer.transport)
        ways = [
            asyncio.create_task(self._forward(reader, there_writer)),
            asyncio.create_task(self._forward(there_reader, writer)),
        ]
        try:
            # Nobody here closes one direction only.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            there_writer.close()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(262_144):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
