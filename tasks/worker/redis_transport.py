"""Kombu's transport over Redis, for which a broken message is one that it drops, not an error of its own.

Kombu takes what is in a queue's list for its own envelope in JSON; anything else would end the worker, and
after it the next. What BRPOP has returned is out of the list already, so each element costs one look.
"""

from typing import Any

import redis
from kombu.transport import redis as kombu_redis

from tasks.worker.foreign import MALFORMED, refuse

# DataError: a part that Redis is to note, and cannot.
_NO_MESSAGE = (*MALFORMED, redis.DataError)


class Channel(kombu_redis.Channel):
    """Kombu's own, which refuses what is no JSON, and keeps its client."""

    _known: redis.Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        # Kombu makes a client for every command that it sends, which costs more than the command.
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]  # not in the stubs
        if self._known is None or self._known.connection_pool is not self.pool:
            self._known = super()._create_client()  # type: ignore[misc]
        return self._known

    def _brpop_read(self, **options: Any) -> Any:
        if self.client.connection is None:
            # To kombu, too, but it would look like a message without attributes here.
            raise redis.ConnectionError("disconnected")
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # not in the stubs
        except MALFORMED as error:
            refuse("no envelope", error)
            return True


class Transport(kombu_redis.Transport):
    """Kombu's own, which refuses JSON that is no message."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        try:
            super()._deliver(message, queue)
        except _NO_MESSAGE as error:
            refuse("malformed envelope", error)
