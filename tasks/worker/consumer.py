"""The worker's consumer: refuses foreign task messages, waits while Redis refuses its own commands, and
notices soon that a child has died.

A foreign message is dropped without being run or decoded further. Only a client that can write to the broker
can send one; Sluice loses nothing by it, because a lane sends an unfinished batch again.
"""

import time
from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

from tasks.servers.pauses import pauses
from tasks.servers.redis_client import ROOM, client
from tasks.worker.foreign import MALFORMED, refuse, require_sound

log = structlog.get_logger()

POOL_SECONDS = 0.5
# Events for Flower are sent together this often, instead of one message for every round of the loop.
EVENTS_SECONDS = 0.2
FIRST_PAUSE_SECONDS = 0.5
MOST_PAUSE_SECONDS = 5.0

_refusing: list[str] = []


def refusal() -> str:
    """Why Redis refuses this worker's commands, in its own words; empty while it takes them."""
    return _refusing[0] if _refusing else ""


class Consumer(CeleryConsumer):
    """Celery's consumer, but it logs a refused message in one line, without its content."""

    hub: Any
    _flush_events: Callable[[], None]
    _events_due = 0.0

    def register_with_event_loop(self, hub: Any) -> None:
        """Registers its timers; called again after every lost connection, when Celery forgets them."""
        super().register_with_event_loop(hub)
        # Celery does it every five seconds, which is too rare: until then a killed child goes unnoticed.
        hub.call_repeatedly(POOL_SECONDS, self.pool._pool.maintain_pool)

    def on_send_event_buffered(self) -> None:  # type: ignore[override]  # the stubs have a property
        """Sends a waiting event together with others, `EVENTS_SECONDS` later at most."""
        # A lost connection may drop the scheduled call: then the next event after that schedules a new one.
        if self.hub and (now := time.monotonic()) >= self._events_due:
            self._events_due = now + EVENTS_SECONDS
            self.hub.call_later(EVENTS_SECONDS, self._flush_events)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Redis refused a command that the start needs."""
        super().on_connection_error_before_connected(exc)
        _wait_while_refused(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The connection is lost, or Redis refused a command; unacknowledged tasks are delivered again."""
        super().on_connection_error_after_connected(exc)
        track_again(self.pool._pool)
        _wait_while_refused(exc)

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """Wraps Celery's handler, which trusts the shape of a message: its error would end the worker."""
        handle = super().create_task_handler(*arguments, **options)

        def take(message: Any) -> Any:
            if "task" not in message.headers:
                # Celery would look for a task of protocol 1 in the body; Sluice does not send those.
                return self.on_unknown_message(None, message)
            try:
                require_sound(message.headers)
                return handle(message)
            except MALFORMED as error:
                return self.on_invalid_task(None, message, error)

        return take

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Refuses a message whose content type or body is not msgpack."""
        refuse("not msgpack", exc)
        message.ack()

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Refuses a message that is not a task message."""
        refuse("no task", None)
        message.reject_log_error(log, self.connection_errors)  # type: ignore[attr-defined]

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """Refuses a message for a task that does not exist here."""
        refuse("unknown task", exc)
        message.reject_log_error(log, self.connection_errors)  # type: ignore[attr-defined]

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """Refuses a task message whose parts are not where they belong."""
        refuse("malformed task", exc)
        message.reject_log_error(log, self.connection_errors)  # type: ignore[attr-defined]


def track_again(pool: Any) -> None:
    """Lets a prefork pool be registered with the event loop again, whatever became of its children.

    Celery ignores a child whose end it believes to have seen, and registering all children ends the worker
    when it meets one of these (`file descriptor is None`).
    """
    pool.maintain_pool()
    for child in pool._pool:
        if getattr(child, "_sentinel_poll", 0) is None:
            del child._sentinel_poll


def _wait_while_refused(error: Exception) -> None:
    """After a refusal, returns when Redis takes writes again, or is away; it waits at least once.

    Raises Celery's `WorkerShutdown` when the worker is to stop.
    """
    waits = pauses(FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS)
    refused: redis.ResponseError | None = error if isinstance(error, redis.ResponseError) else None
    while refused is not None:
        _refusing[:] = [str(refused)]
        pause = next(waits)
        log.warning("redis_refuses", error=str(refused), again_in_s=pause)
        _sleep(pause)
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
