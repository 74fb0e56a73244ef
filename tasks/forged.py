"""Tells of, and counts, what is in the broker and is no task message of ours."""

import redis
import structlog

from tasks import counters
from tasks.redis_client import client

log = structlog.get_logger()


def refuse(what: str, error: Exception | None) -> None:
    """Notes in one line, without the message, that a message was dropped; `what` says why."""
    log.error("task_message_refused", what=what, error=type(error).__name__ if error else None)
    try:
        counters.add(client(), {"task_messages_refused": 1})
    except redis.RedisError as trouble:
        log.warning("refusal_not_counted", error=str(trouble))
