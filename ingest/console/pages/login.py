"""Signing in and out."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from ingest.admin.errors import ServerAway
from ingest.api.problems import Refused, told
from ingest.console import guard, render
from ingest.console.guard import FORM_TOKEN, Fields, Form, Visiting, Word
from ingest.console.sessions import Seals, Session
from ingest.console.sign_in import SignIn

COOKIE = "sluice_sign_in"
SECONDS = 3600
MOST_OF_A_NAME = 40

router = APIRouter()


def _seals(request: Request) -> Seals:
    found: Seals = request.app.state.seals
    return found


def _sign_in(request: Request) -> SignIn:
    found: SignIn = request.app.state.sign_in
    return found


Sealing = Annotated[Seals, Depends(_seals)]
SigningIn = Annotated[SignIn, Depends(_sign_in)]


@router.get("/login")
def form(request: Request, seals: Sealing, next: Word = None) -> Response:  # noqa: A002 - its name in the address
    """The page on which one signs in."""
    return _form(request, seals, next or "")


@router.post("/login")
def sign_in(request: Request, seals: Sealing, doors: SigningIn, given: Fields) -> Response:
    """Begins a session, and leads to the page that was wanted."""
    wanted = given.get("next", "")
    nonce = guard.cookie(request, COOKIE)
    if not nonce or not seals.holds("sign in", nonce, given.get(FORM_TOKEN, "")):
        return _form(request, seals, wanted, 403, "The page was too old, or cookies are off. Sign in here.")
    try:
        session = _begun(doors, given, request.client.host if request.client else "")
    except ServerAway as error:
        return _form(request, seals, wanted, 503, told(error, to_operator=False))
    except Refused as error:
        return _form(request, seals, wanted, error.status, error.detail)
    answer = RedirectResponse(_own(wanted), 303, {"cache-control": "no-store"})
    guard.keep(request, answer, session)
    guard.set_cookie(request, answer, COOKIE, "", 0)
    return answer


@router.post("/logout")
def sign_out(request: Request, visitor: Visiting, doors: SigningIn, _: Form) -> Response:
    """Ends the session."""
    answer = RedirectResponse("/login", 303, {"cache-control": "no-store"})
    guard.set_cookie(request, answer, guard.COOKIE, "", 0)
    try:
        doors.end(visitor.session)
    except (ServerAway, Refused):
        # It is ended in this process, and the browser has no cookie any more.
        return answer
    return answer


def _begun(doors: SignIn, given: dict[str, str], address: str) -> Session:
    user, secret = given.get("user", "").strip(), given.get("secret", "").strip()
    if user:
        return doors.by_account(user, secret, address)
    person = given.get("person", "").strip()
    if len(person) > MOST_OF_A_NAME or not person.isprintable():
        raise Refused(422, f"A name has at most {MOST_OF_A_NAME} characters, all of them printable.")
    return doors.by_token(secret, person, address)


def _form(request: Request, seals: Seals, wanted: str, status: int = 200, error: str = "") -> Response:
    nonce = guard.cookie(request, COOKIE) or secrets.token_urlsafe(16)
    token = seals.seal("sign in", nonce)
    answer = render.page(
        "login.html", request, status=status, next=_own(wanted), error=error, form_token=token
    )
    guard.set_cookie(request, answer, COOKIE, nonce, SECONDS)
    return answer


def _own(wanted: str) -> str:
    """The page of ours that is wanted, or the first one: nobody is led elsewhere."""
    plain = wanted.isprintable() and wanted.isascii() and "\\" not in wanted
    ours = plain and wanted.startswith("/") and not wanted.startswith("//")
    return wanted if ours and not wanted.startswith("/login") else "/"
