"""Handles a bug in a user's request: logs and counts it, and makes the answer."""

import structlog

from tasks.observe.metrics.control import REQUESTS_FAILED
from tasks.rules.answers import Answer, Kind, internal

log = structlog.get_logger()


def internal_error(kind: Kind, user_id: str, request: str) -> Answer:
    """The answer to a request that met a bug. Call it in the `except` block, because it logs the exception.

    The answer and the log line both have the request's id.
    """
    REQUESTS_FAILED.add(1, kind)
    log.exception("request_failed", id=request, kind=kind, user_id=user_id)
    return internal(kind, request)
