"""A request of a user that met a bug: logged, counted, answered."""

import structlog

from tasks.observe.metrics.control import REQUESTS_FAILED
from tasks.rules.answers import PATH, Answer, Kind, refusal

log = structlog.get_logger()


def internal_error(kind: Kind, user_id: str, request: str) -> Answer:
    """The answer to a request that met a bug. To be called while the exception is handled, which it logs.

    The answer and the log line have the same id, that of the request.
    """
    REQUESTS_FAILED.add(1, kind)
    log.exception("request_failed", id=request, kind=kind, user_id=user_id)
    message = (
        f"internal error, nothing more is known here; who runs this service finds it by the id {request}"
    )
    return refusal([{"path": PATH[kind], "message": message}])
