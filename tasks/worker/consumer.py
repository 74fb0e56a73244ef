"""The worker's consumer: refuses every task message that is none of ours, waits while Redis refuses its own
commands, and sees soon that a child has died.

A message that is none of ours is dropped without being run or decoded further. Only who can write to the
broker can send one; nothing of Sluice's is lost by it, for its lane sends a batch again that is not done.
"""

import time
from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

from tasks.servers.redis_client import ROOM, client
from tasks.worker.foreign import MALFORMED, refuse, require_sound

log = structlog.get_logger()

POOL_SECONDS = 0.5
# What Flower is told of, in one message instead of one for every turn of the loop.
EVENTS_SECONDS = 0.2
FIRST_PAUSE_SECONDS = 0.5
MOST_PAUSE_SECONDS = 5.0

_refusing: list[str] = []


def refusal() -> str:
    """Why Redis refuses this worker's commands, in its own words; nothing while it takes them."""
    return _refusing[0] if _refusing else ""


class Consumer(CeleryConsumer):
    """Celery's own, which tells of what it refuses in one line, without the message."""

    hub: Any
    _flush_events: Callable[[], None]
    _events_due = 0.0

    def register_with_event_loop(self, hub: Any) -> None:
        """Again after every lost connection, when Celery forgets all that was to be repeated."""
        super().register_with_event_loop(hub)
        # Every five seconds, as Celery does, is too seldom: until then nobody knows that a child was killed.
        hub.call_repeatedly(POOL_SECONDS, self.pool._pool.maintain_pool)

    def on_send_event_buffered(self) -> None:  # type: ignore[override]  # the stubs have a property
        """An event waits to be sent; no longer than the others that come within `EVENTS_SECONDS`."""
        # A lost connection may take the call with it: then the next event after that makes a new one.
        if self.hub and (now := time.monotonic()) >= self._events_due:
            self._events_due = now + EVENTS_SECONDS
            self.hub.call_later(EVENTS_SECONDS, self._flush_events)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Redis refused what a start needs."""
        super().on_connection_error_before_connected(exc)
        _wait_while_refused(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The connection is lost, or Redis refused a command; what it had given comes again."""
        super().on_connection_error_after_connected(exc)
        track_anew(self.pool._pool)
        _wait_while_refused(exc)

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """Celery's handler trusts the shape of a message, and its error would end the worker."""
        handle = super().create_task_handler(*arguments, **options)

        def take(message: Any) -> Any:
            if "task" not in message.headers:
                # Celery would look for a task of its first protocol in the body; nobody of ours sends those.
                return self.on_unknown_message(None, message)
            try:
                require_sound(message.headers)
                return handle(message)
            except MALFORMED as error:
                return self.on_invalid_task(None, message, error)

        return take

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Of another content type than msgpack, or no msgpack."""
        refuse("not msgpack", exc)
        message.ack()

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002 - Celery's signature
        """No task message."""
        refuse("no task", None)
        message.reject_log_error(log, self.connection_errors)  # type: ignore[attr-defined]

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """A task that we do not have."""
        refuse("unknown task", exc)
        message.reject_log_error(log, self.connection_errors)  # type: ignore[attr-defined]

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """A task message whose parts are not where they belong."""
        refuse("malformed task", exc)
        message.reject_log_error(log, self.connection_errors)  # type: ignore[attr-defined]


def track_anew(pool: Any) -> None:
    """Lets a prefork pool be registered with the event loop again, whatever became of its children.

    Celery takes no notice any more of a child whose end it believes to have seen, and a registration of all
    children ends the worker when it comes to one of these (`file descriptor is None`).
    """
    pool.maintain_pool()
    for child in pool._pool:
        if getattr(child, "_sentinel_poll", 0) is None:
            del child._sentinel_poll


def _wait_while_refused(error: Exception) -> None:
    """After a refusal returns when Redis takes what is written again, or is away; it waits once at least.

    Raises Celery's `WorkerShutdown` when the worker is to stop.
    """
    pause = FIRST_PAUSE_SECONDS
    refused: redis.ResponseError | None = error if isinstance(error, redis.ResponseError) else None
    while refused is not None:
        _refusing[:] = [str(refused)]
        log.warning("redis_refuses", error=str(refused), again_in_s=pause)
        _sleep(pause)
        pause = min(2 * pause, MOST_PAUSE_SECONDS)
        refused = _refusal_now()
    _refusing.clear()


def _refusal_now() -> redis.ResponseError | None:
    try:
        client().set(ROOM, 1, px=1000)
    except redis.ResponseError as error:
        return error
    except redis.RedisError:
        return None  # Celery waits for a Redis that is away
    return None


def _sleep(seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        state.maybe_shutdown()
        time.sleep(min(left, FIRST_PAUSE_SECONDS))
