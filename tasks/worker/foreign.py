"""Foreign or malformed messages in the broker: how they are recognised, logged and counted."""

from typing import Annotated, Any

import redis
import structlog
from pydantic import BaseModel, ConfigDict, Field

from tasks.servers import counters
from tasks.servers.redis_client import client

log = structlog.get_logger()

# Errors of parsing a message of any shape; a broken connection does not raise these.
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TaskHeaders(BaseModel):
    """The headers of a task message as Celery writes them; Celery does not check their types when it reads.

    https://docs.celeryq.dev/en/stable/internals/protocol.html, version 2. Further headers are allowed.
    """

    model_config = ConfigDict(strict=True)

    task: str
    id: str
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    eta: str | None = None
    expires: str | None = None
    retries: int | None = Field(None, ge=0)
    timelimit: list[_Seconds | None] | None = Field(None, min_length=2, max_length=2)
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    shadow: str | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: int | None = Field(None, ge=0)
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None


def require_sound(headers: dict[str, Any]) -> None:
    """Raises `ValueError` for headers that are not a task message's."""
    TaskHeaders.model_validate(headers)


def refuse(what: str, error: Exception | None) -> None:
    """Logs in one line, without its content, that a message was dropped; `what` says why."""
    log.error("task_message_refused", what=what, error=type(error).__name__ if error else None)
    try:
        counters.add(client(), {"task_messages_refused": 1})
    except redis.RedisError as trouble:
        log.warning("refusal_not_counted", error=str(trouble))
