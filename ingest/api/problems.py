"""Errors as the HTTP API answers them: `application/problem+json`, with the sentences of the commands."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from ingest.admin.accounts.provision import UnknownUsername, UsernameTaken
from ingest.admin.alerting.channels import NoChannel
from ingest.admin.devices import NoDevice
from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.letters.dlq_groups import TooManyLetters
from ingest.admin.letters.dlq_list import NoDeadLetter
from ingest.api.request_ids import current
from tasks.rules import model as rules

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5


class Fault(BaseModel):
    """One fault of a request."""

    path: str = Field(description="Where it is, such as `query.limit` or `rules.0.operator`.")
    message: str


class Problem(BaseModel):
    """Why a request could not be answered, and what to do about it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str = Field(description="The same as in the header `X-Request-ID`, and in the log.")
    errors: list[Fault] | None = None


class Refused(Exception):
    """The request gets this answer."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class NotFound(Refused):
    """There is no such thing, or it is not for the caller to know."""

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.NOT_FOUND, detail)


class Faulty(Refused):
    """The document has these faults."""

    def __init__(self, faults: Iterable[rules.Fault]) -> None:
        self.faults = [Fault(path=fault["path"], message=fault["message"]) for fault in faults]
        said = "; ".join(f"{fault.path}: {fault.message}" for fault in self.faults[:5])
        super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, f"Nothing was changed: {said}.")


class Busy(Refused):
    """Too much is asked for at the same time."""

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, detail, Retry_After=str(RETRY_SECONDS))


class TooSlow(Refused):
    """The database ended the query when its time was over."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            HTTPStatus.GATEWAY_TIMEOUT,
            f"The query takes longer than {seconds:g} s. Ask for less: a shorter range, a longer `bucket`,"
            " one user or one device.",
        )


def answer(
    status: int, detail: str, headers: dict[str, str] | None = None, errors: list[Fault] | None = None
) -> JSONResponse:
    """The response for what is wrong."""
    told = problem(status, detail, errors).model_dump(exclude_none=True)
    return JSONResponse(told, status, headers, MEDIA_TYPE)


def problem(status: int, detail: str, errors: list[Fault] | None = None) -> Problem:
    """The problem document of this request."""
    return Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, request_id=current(), errors=errors
    )


def status_of(error: OperatorError) -> int:
    """The HTTP status for this error."""
    return next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 422)


def told(error: ServerAway, *, to_operator: bool) -> str:
    """The sentence about a server that is away; only the operator may see its address."""
    return str(error) if to_operator else _AWAY


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems of a route, for its description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def add_to(app: FastAPI) -> None:
    """Makes every error of the application a problem."""

    @app.exception_handler(Refused)
    def _refused(_: Request, error: Refused) -> JSONResponse:
        faults = error.faults if isinstance(error, Faulty) else None
        return answer(error.status, error.detail, error.headers, faults)

    @app.exception_handler(ServerAway)
    def _away(request: Request, error: ServerAway) -> JSONResponse:
        log.warning("server_away", error=str(error))
        said = told(error, to_operator=getattr(request.state, "is_operator", False))
        return answer(HTTPStatus.SERVICE_UNAVAILABLE, said, {"Retry-After": str(RETRY_SECONDS)})

    @app.exception_handler(OperatorError)
    def _operator_error(_: Request, error: OperatorError) -> JSONResponse:
        return answer(status_of(error), str(error))

    @app.exception_handler(Exception)
    def _failed(_request: Request, _error: Exception) -> JSONResponse:
        return answer(HTTPStatus.INTERNAL_SERVER_ERROR, FAILED)

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [
            Fault(path=".".join(map(str, one["loc"])), message=one["msg"].removeprefix("Value error, "))
            for one in error.errors()
        ]
        said = "; ".join(f"{fault.path}: {fault.message}" for fault in faults[:5])
        return answer(HTTPStatus.UNPROCESSABLE_ENTITY, f"The request is not valid: {said}.", errors=faults)

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == HTTPStatus.BAD_REQUEST:
            return answer(HTTPStatus.UNPROCESSABLE_ENTITY, "The body must be JSON, in UTF-8.")
        detail = _SENTENCES.get(error.status_code, f"{error.detail}.")
        return answer(error.status_code, detail, dict(error.headers or {}))


FAILED = "The request met a bug of Sluice; the log has it under this request's id."
_AWAY = "A server that this needs does not answer; the log has the reason under this request's id. Try again."
_STATUSES: dict[type[OperatorError], int] = {
    NoDevice: HTTPStatus.NOT_FOUND,
    NoChannel: HTTPStatus.NOT_FOUND,
    NoDeadLetter: HTTPStatus.NOT_FOUND,
    UnknownUsername: HTTPStatus.NOT_FOUND,
    UsernameTaken: HTTPStatus.CONFLICT,
    TooManyLetters: HTTPStatus.GATEWAY_TIMEOUT,
}
_SENTENCES: dict[int, str] = {
    HTTPStatus.NOT_FOUND: "There is no such path; /api/v1/openapi.json describes those that there are.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The path does not take this method; see /api/v1/openapi.json.",
}
