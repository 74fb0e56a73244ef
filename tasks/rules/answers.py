"""Answers to users: success, or every fault; and the reply of a task to the control process."""

from typing import Any, Literal, NotRequired, TypedDict

from tasks.rules.model import Fault

Kind = Literal["config", "manage", "rules", "alerts"]
Asked = Literal["rules", "alerts"]
"""The kinds of query."""

PATH: dict[Kind, str] = {"config": "rules", "manage": "command", "rules": "query", "alerts": "query"}


_GIVEN_UP = "and was given up; please send it again"
_INTERNAL = "internal error; "


class Answer(TypedDict):
    """The answer as published to the user."""

    ok: bool
    id: NotRequired[str]
    rules: NotRequired[int | list[Any]]
    alerts: NotRequired[list[Any]]
    total: NotRequired[int]
    operator_rules: NotRequired[list[Any]]
    next: NotRequired[Any]
    hint: NotRequired[str]
    errors: NotRequired[list[Fault]]
    warnings: NotRequired[list[Fault]]
    stale: NotRequired[bool]  # nothing was changed, because somebody else had changed it


class Reply(TypedDict):
    """The report of a task to the control process; without an answer nothing is published."""

    request: str
    answer: Answer | None


def refusal(errors: list[Fault]) -> Answer:
    """The answer to a request that changed nothing."""
    return Answer(ok=False, errors=errors)


def given_up(kind: Kind, seconds: float) -> Answer:
    """The answer to a request that was not done within `seconds`, and no longer will be."""
    message = f"this was not done within {seconds:.0f} s {_GIVEN_UP}"
    return refusal([{"path": PATH[kind], "message": message}])


def internal(kind: Kind, request: str) -> Answer:
    """The answer to a request that met a bug."""
    message = f"{_INTERNAL}the operator of this service can find it in the logs by the id {request}"
    return refusal([{"path": PATH[kind], "message": message}])


def is_open(answer: Answer) -> bool:
    """Whether an answer leaves open what became of the request: it was given up, or met a bug."""
    return any(
        error["message"].endswith(_GIVEN_UP) or error["message"].startswith(_INTERNAL)
        for error in answer.get("errors", [])
    )


def too_many(kind: Kind, most: int) -> Answer:
    """The answer to a request of a user who has too many waiting requests."""
    message = (
        f"too many requests are waiting: a user may have {most} (REQUESTS_PER_USER) without an answer, of"
        " 1 MiB in total; send this one again after some answers"
    )
    return refusal([{"path": PATH[kind], "message": message}])
