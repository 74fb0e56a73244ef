"""Accounts of the MQTT broker: listed, made, given new passwords, removed."""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from ingest.admin.accounts import accounts, provision
from ingest.admin.accounts.accounts import Account
from ingest.api.callers import Caller
from ingest.api.inputs import Database
from ingest.api.models.accounts import NewAccounts
from ingest.api.problems import Refused
from ingest.api.routes import accounts as work
from ingest.console import render
from ingest.console.guard import Cursor, Form, Id, Visiting, Word
from ingest.console.pages.accounts_csv import MOST_ACCOUNTS

PER_PAGE = 50

router = APIRouter()


@router.get("/accounts")
def listed(
    request: Request,
    visitor: Visiting,
    database: Database,
    *,
    user: Word = None,
    cursor: Cursor = None,
    done: Word = None,
) -> Response:
    """The accounts by username, page by page."""
    found = work.list_accounts(visitor.caller, database, user=user, limit=PER_PAGE, cursor=cursor)
    return render.page(
        "accounts.html",
        request,
        accounts=found.accounts,
        user=user or "",
        first=cursor is None,
        following=found.next,
        removed=done == "removed",
        most_accounts=MOST_ACCOUNTS,
    )


@router.post("/accounts")
def create(request: Request, visitor: Visiting, database: Database, given: Form) -> Response:
    """Makes the accounts of the named devices, or that of the user's programs, and shows the passwords."""
    names = [line.strip() for line in given.get("devices", "").split("\n")]
    try:
        wanted = NewAccounts(
            user=given.get("user", "").strip() or visitor.caller.user_id or "",
            devices=[name for name in names if name],
        )
    except ValidationError as error:
        path = ".".join(map(str, error.errors()[0]["loc"]))
        raise Refused(422, f"Nothing was changed: {path}: {error.errors()[0]['msg']}.") from None
    made = work.create(visitor.caller, database, wanted)
    return render.page("passwords.html", request, made=made.accounts)


@router.get("/account")
def one(
    request: Request, visitor: Visiting, database: Database, *, user: Id, device: Word = None
) -> Response:
    """One account, with what may be done to it."""
    account = _account(visitor.caller, user, device)
    with database.reading() as connection:
        provision.check_present(connection, account, locked=False)
    return render.page("account.html", request, user=user, device=device or "", username=account.username)


@router.post("/account/password")
def rotate(request: Request, visitor: Visiting, database: Database, given: Form) -> Response:
    """Gives the account a new password, which is shown once, and ends the old one."""
    user, device = given.get("user", ""), given.get("device", "")
    _account(visitor.caller, user, device)
    if device:
        made = work.rotate_device(visitor.caller, database, user, device)
    else:
        made = work.rotate_user(visitor.caller, database, user)
    return render.page("passwords.html", request, made=[made])


@router.post("/account/remove")
def remove(visitor: Visiting, database: Database, given: Form) -> Response:
    """Removes the account; the broker ends its connection. Readings stay."""
    user, device = given.get("user", ""), given.get("device", "")
    _account(visitor.caller, user, device)
    if device:
        work.remove_device(visitor.caller, database, user, device)
    else:
        work.remove_user(visitor.caller, database, user)
    return RedirectResponse("/accounts?done=removed", 303, {"cache-control": "no-store"})


def _account(caller: Caller, user: str, device: str | None) -> Account:
    caller.may_see(user)
    return accounts.device(user, device) if device else accounts.user(user)
