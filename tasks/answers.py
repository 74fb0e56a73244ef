"""What a user is answered: what was done, or every fault; and what a task reports to the control process."""

from typing import Literal, NotRequired, TypedDict

import structlog

from tasks import metrics
from tasks.rules import Fault

log = structlog.get_logger()

Kind = Literal["config", "manage"]

_PATH: dict[Kind, str] = {"config": "rules", "manage": "command"}


class Answer(TypedDict):
    """What is published to the user."""

    ok: bool
    rules: NotRequired[int]
    errors: NotRequired[list[Fault]]


class Reply(TypedDict):
    """What a task reports to the control process; without an answer nothing is published."""

    request: str
    answer: Answer | None


def refusal(errors: list[Fault]) -> Answer:
    """The answer to a request that changed nothing."""
    return Answer(ok=False, errors=errors)


def internal_error(kind: Kind, user_id: str, request: str) -> Answer:
    """The answer to a request that met a bug. To be called while the exception is handled, which it logs.

    The answer and the log line have the same id, that of the request.
    """
    metrics.REQUESTS_FAILED.add(1, kind)
    log.exception("request_failed", id=request, kind=kind, user_id=user_id)
    message = (
        f"internal error, nothing more is known here; who runs this service finds it by the id {request}"
    )
    return refusal([{"path": _PATH[kind], "message": message}])


def given_up(kind: Kind, seconds: float) -> Answer:
    """The answer to a request that was not done within so many seconds, and no longer will be."""
    message = f"this was not done within {seconds:.0f} s, and is given up; please send it again"
    return refusal([{"path": _PATH[kind], "message": message}])


def too_many(kind: Kind, most: int) -> Answer:
    """The answer to a request of a user who has too many that wait."""
    message = (
        f"too many requests are waiting: a user may have {most} (REQUESTS_PER_USER), of together 1 MiB, that"
        " are not answered yet; send this one again after some of the answers"
    )
    return refusal([{"path": _PATH[kind], "message": message}])
