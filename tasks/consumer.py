"""The worker's consumer: refuses every task message that is none of ours, and counts it.

Such a message is dropped without being run or decoded further. Only who can write to the broker can send
one; nothing of Sluice's is lost by it, for a batch that is not done is sent again by its lane.
"""

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker.consumer import Consumer as CeleryConsumer

from tasks.forged import refuse, require_sound

log = structlog.get_logger()


class Consumer(CeleryConsumer):
    """Celery's own, which tells of what it refuses in one line, without the message."""

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
            except (AttributeError, KeyError, TypeError, ValueError) as error:
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
