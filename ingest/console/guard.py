"""Finds out who visits a page, and that a form was sent from one of ours."""

from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl

from fastapi import Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BeforeValidator
from starlette.requests import cookie_parser

from ingest.api import shares
from ingest.api.callers import Caller
from ingest.api.inputs import MOST_CHARACTERS, storable
from ingest.api.pages import MOST_CHARACTERS as MOST_OF_A_CURSOR
from ingest.api.problems import Refused
from ingest.api.shares import Share
from ingest.console.sessions import Seals, Session
from ingest.console.sign_in import SignIn, remaining

COOKIE = "sluice_session"
# A browser keeps such a name for this host, for TLS, and for who sets it here.
SECURE_COOKIE = f"__Host-{COOKIE}"
FORM_TOKEN = "form_token"  # noqa: S105 - the name of a field
MOST_FIELDS = 100
# A form of somebody who has not signed in, up to this size; larger ones are parsed in a thread.
SMALL_BYTES = 16 * 1024

NO_FORM = "The form is not one of these pages, or holds what no text may hold."
_STALE = (
    "This form was not sent from a page of this session. Go back, load the page again, and send it again."
)


class Visitor(NamedTuple):
    """The visitor who has signed in."""

    caller: Caller
    session: Session
    form_token: str


class NotSignedIn(Exception):
    """The page is for who has signed in."""


def is_secure(request: Request) -> bool:
    """Whether cookies are for TLS alone."""
    return bool(request.app.state.secure_cookies) or request.scope.get("scheme") == "https"


def set_cookie(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    """A cookie that no script reads, that other sites' forms do not send, and that is over after a while."""
    secure = is_secure(request)
    response.set_cookie(
        f"__Host-{name}" if secure else name,
        value,
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def cookie(request: Request, name: str) -> str:
    """The cookie of that name, or nothing."""
    return request.cookies.get(f"__Host-{name}" if is_secure(request) else name, "")


def keep(request: Request, response: Response, session: Session) -> None:
    """Gives the browser the session."""
    seals: Seals = request.app.state.seals
    set_cookie(request, response, COOKIE, seals.cookie(session), remaining(session))


def share(seals: Seals, header: str, _address: str = "") -> Share:
    """The share that this request counts to, by its cookies, before any query."""
    # As for the pages: other applications of the host may have set cookies that are not well-formed.
    cookies = cookie_parser(header)
    for name in (SECURE_COOKIE, COOKIE):
        session = seals.session(cookies[name]) if name in cookies else None
        if session is not None:
            return shares.OPERATOR if session.user_id is None else shares.of_tenant(session.user_id)
    return shares.STRANGERS


def _visitor(request: Request) -> Visitor:
    seals: Seals = request.app.state.seals
    sign_in: SignIn = request.app.state.sign_in
    session = seals.session(cookie(request, COOKIE))
    caller = None if session is None else sign_in.caller(session)
    if session is None or caller is None:
        raise NotSignedIn
    visitor = Visitor(caller, session, seals.form_token(session.id))
    request.state.visitor = visitor
    return visitor


Visiting = Annotated[Visitor, Depends(_visitor)]
"""The visitor who has signed in; others get no page."""


def _operating(visitor: Visiting) -> Visitor:
    if not visitor.caller.is_operator:
        raise Refused(403, "Only the operator may see this: it is about all users.")
    return visitor


Operating = Annotated[Visitor, Depends(_operating)]
"""The operator alone."""


async def fields(request: Request) -> dict[str, str]:
    """The fields of a form. Raises `Refused`."""
    body = await request.body()
    # A large one takes half a second, in which the event loop would answer nobody.
    return decoded(body) if len(body) <= SMALL_BYTES else await run_in_threadpool(decoded, body)


def decoded(body: bytes) -> dict[str, str]:
    """The fields of a form as browsers send those that have no file. Raises `Refused`."""
    try:
        return texts(dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)))
    except ValueError:
        raise Refused(422, NO_FORM) from None


def texts(given: dict[str, str]) -> dict[str, str]:
    """The fields as they were typed. Raises `ValueError` for what no text may hold."""
    # Browsers send line ends as on paper tape.
    return {name: storable(value).replace("\r\n", "\n") for name, value in given.items()}


Fields = Annotated[dict[str, str], Depends(fields)]


def _form(request: Request, visitor: Visiting, given: Fields) -> dict[str, str]:
    return sent_from_here(request, visitor, given)


def sent_from_here(request: Request, visitor: Visitor, given: dict[str, str]) -> dict[str, str]:
    """The fields without the form's token. Raises `Refused` unless a page of this session has sent them."""
    seals: Seals = request.app.state.seals
    if not seals.holds("form", visitor.session.id, given.pop(FORM_TOKEN, "")):
        raise Refused(403, _STALE)
    return given


Form = Annotated[dict[str, str], Depends(_form)]
"""The fields of a form that a page of this session has sent."""


def _blank(value: Any) -> Any:
    return value or None


Word = Annotated[
    Annotated[str, Query(max_length=MOST_CHARACTERS), AfterValidator(storable)] | None,
    BeforeValidator(_blank),
]
"""A parameter that a form may send empty."""

Id = Annotated[str, Query(max_length=300), AfterValidator(storable)]

Cursor = Annotated[
    Annotated[str, Query(max_length=MOST_OF_A_CURSOR), AfterValidator(storable)] | None,
    BeforeValidator(_blank),
]
