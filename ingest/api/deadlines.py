"""How long a connection may take: to send the head of a request, and to take what it is answered.

The body of a request has a deadline of its own, see `around`.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Deadlines(H11Protocol):
    """A connection that is ended when the other side keeps it waiting.

    The head of a request must be whole within HEAD_SECONDS after the connection began, or after its first
    byte where the connection has had a request before. If an answer does not fit into the buffers, the
    client must take some of it within STALLED_SECONDS; the rest is discarded after that, so that the code
    that makes the answer ends and releases what it holds.
    """

    head_seconds = 15.0
    stalled_seconds = 30.0

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time for the first head begins."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """The time for a head begins with its first byte, and ends with its last."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end_wait_for_head()
        elif self._head is None:
            self._await_head()

    def pause_writing(self) -> None:
        """The other side does not take what it is sent."""
        super().pause_writing()
        self._stall = self.loop.call_later(self.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It took some."""
        super().resume_writing()
        self._end_stall()

    def timeout_keep_alive_handler(self) -> None:
        """Without a next request the connection ends; a close would wait for answers to be taken first."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._end_wait_for_head()
        self._end_stall()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _end_wait_for_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
        self._head = None

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        self._stall = None
