"""Kombu's transport over Redis, changed so that it drops a malformed message instead of failing, and never
waits for one that may not come.

Kombu expects its own JSON envelope in a queue's list; anything else would end the worker, and the next one
after it. An element that BRPOP has returned has left the list already, so each is read once.
"""

from typing import Any

import redis
from kombu.transport import redis as kombu_redis

from tasks.worker.foreign import MALFORMED, refuse

# DataError: kombu stores a part of the message in Redis that has an impossible type.
_NO_MESSAGE = (*MALFORMED, redis.DataError)


class Channel(kombu_redis.Channel):
    """Kombu's channel, but it refuses what is not JSON, and keeps its client."""

    _known: redis.Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        # Kombu makes a client for every command, which costs more than the command itself.
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]  # not in the stubs
        if self._known is None or self._known.connection_pool is not self.pool:
            self._known = super()._create_client()  # type: ignore[misc]
        return self._known

    def _brpop_read(self, **options: Any) -> Any:
        if self.client.connection is None:
            # Kombu raises it, too, but here it would look like a malformed message.
            raise redis.ConnectionError("disconnected")
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # not in the stubs
        except MALFORMED as error:
            refuse("no envelope", error)
            return True

    def _receive(self) -> bool:
        # An event can belong to a connection that is closed by now and whose file number the new one has.
        # That one has nothing to read yet, and kombu reads without a timeout: the worker would stand still.
        connection = self.subclient.connection
        try:
            if connection is not None and not connection.can_read(timeout=0):
                return False
        except redis.ConnectionError:
            self._in_listen = None
            raise
        return bool(super()._receive())  # type: ignore[misc]  # not in the stubs


class Transport(kombu_redis.Transport):
    """Kombu's transport, but it refuses JSON that is not a message."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        try:
            super()._deliver(message, queue)
        except _NO_MESSAGE as error:
            refuse("malformed envelope", error)
