"""The MQTT accounts of devices, of users' programs and of services."""

import io
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from ingest.admin.accounts import accounts, accounts_csv, provision
from ingest.admin.accounts.accounts import Account
from ingest.api import lines, pages
from ingest.api.callers import Anybody, Caller, Operator
from ingest.api.connections import Connections
from ingest.api.inputs import Body, Database, DeviceInPath, Limit, User, UserInPath
from ingest.api.models.accounts import Accounts, Credential, Credentials, NewAccounts
from ingest.api.pages import Cursor
from ingest.api.places import Places
from ingest.api.problems import Refused, described

# Each holds a connection to the database for as long as it takes, and the accounts' lock.
_making = Places("make the accounts of a file", 1, 0)
# The number of credentials in a line of the answer.
CREDENTIALS_AT_ONCE = 1000
_CSV = {
    "requestBody": {
        "required": True,
        "content": {"text/csv": {"schema": {"type": "string", "example": "user,device\nada,fridge\n"}}},
    }
}

router = APIRouter(tags=["accounts"])


@router.get("/accounts")
def list_accounts(
    caller: Anybody, database: Database, *, user: User = None, limit: Limit = 50, cursor: Cursor = None
) -> Accounts:
    """The accounts by username, without secrets."""
    after = pages.place_of(cursor, provision.Place)
    with database.reading() as connection:
        rows = provision.page(connection, caller.only(user), limit + 1, after)
    shown, following = pages.cut([row._asdict() for row in rows], limit, provision.Place)
    return Accounts.model_validate({"accounts": shown, "next": following})


@router.post("/accounts", status_code=201, responses=described(409))
def create(caller: Anybody, database: Database, wanted: NewAccounts) -> Credentials:
    """Makes the accounts of new devices, or of the user's own programs: all or none."""
    caller.may_see(wanted.user)
    made = [accounts.device(wanted.user, device) for device in dict.fromkeys(wanted.devices)]
    made = made or [accounts.user(wanted.user)]
    with database.writing(caller.name) as connection:
        present = provision.present(connection, made)
        if present:
            raise Refused(
                409,
                f"There already is an account {min(present)}. `POST /accounts/USER/DEVICE/password` gives"
                " one a new password.",
            )
        credentials = provision.provision_all(connection, made)
    return Credentials.model_validate({"accounts": [one._asdict() for one in credentials]})


@router.post(
    "/accounts/csv",
    openapi_extra=_CSV,
    response_class=StreamingResponse,
    responses={200: {"content": {lines.MEDIA_TYPE: {"schema": lines.SCHEMA}}}, **described(403, 409)},
)
def create_from_csv(
    caller: Operator,
    database: Database,
    document: Body,
    *,
    rotate: Annotated[bool, Query(description="Accounts that are there get new passwords, too.")] = False,
) -> StreamingResponse:
    """Makes the accounts of a file as `sluice provision csv` takes it: all or none; what is there stays.

    The answer comes line by line, each an object in JSON: `{"made": 1000, "of": 10000}` while it goes on,
    then `{"credentials": […]}`, a thousand in a line, then `{"done": true, …}`. Only with that last line are
    the accounts made, and the passwords are shown this once. `{"problem": {…}}` says that none was made.
    """
    wanted = named(document)
    steps = _made(caller, database, wanted, rotate=rotate)
    # An error at the very beginning is an answer of its own.
    first = next(steps)
    return StreamingResponse(lines.written(first, steps), media_type=lines.MEDIA_TYPE)


def named(document: bytes) -> list[Account]:
    """The accounts that a CSV file names, in its order. Raises `InvalidCsv` with every fault, up to 20."""
    return accounts_csv.read(io.TextIOWrapper(io.BytesIO(document), "utf-8", newline=""))


def make_all(
    caller: Caller, database: Connections, wanted: list[Account], *, rotate: bool
) -> accounts_csv.Provisioned:
    """Makes the accounts, all or none; what is there stays, or gets a new password."""
    with _making.one(caller), database.writing(caller.name) as connection:
        return accounts_csv.provision(connection, wanted, lambda *_: None, rotate=rotate)


def _made(caller: Caller, database: Connections, wanted: list[Account], *, rotate: bool) -> lines.Steps:
    """Lines of the answer. The accounts are made when the last one is asked for, and none before."""
    with _making.one(caller):
        with database.writing(caller.name) as connection:
            done = None
            for done in accounts_csv.parts(connection, wanted, rotate=rotate):
                yield {"made": len(done.made), "of": len(done.made) + done.waiting}
            assert done is not None
            for begin in range(0, len(done.made), CREDENTIALS_AT_ONCE):
                yield {"credentials": [_told(*one) for one in done.made[begin : begin + CREDENTIALS_AT_ONCE]]}
        yield {"done": True, "made": len(done.made), "left": [one.username for one in done.left]}


def _told(account: Account, made: provision.Credential) -> dict[str, str | None]:
    return {"user": account.user_id, "device": account.device_id, **made._asdict()}


@router.post("/accounts/{user}/password")
def rotate_user(caller: Anybody, database: Database, user: UserInPath) -> Credential:
    """Gives the account of the user's own programs a new password, and ends the old one."""
    caller.may_see(user)
    return _rotate(caller, database, accounts.user(user))


@router.post("/accounts/{user}/{device}/password")
def rotate_device(caller: Anybody, database: Database, user: UserInPath, device: DeviceInPath) -> Credential:
    """Gives a device's account a new password, and ends the old one."""
    caller.may_see(user)
    return _rotate(caller, database, accounts.device(user, device))


@router.delete("/accounts/{user}", status_code=204)
def remove_user(caller: Anybody, database: Database, user: UserInPath) -> None:
    """Removes the account of the user's own programs; the broker ends its connection."""
    caller.may_see(user)
    with database.writing(caller.name) as connection:
        provision.remove_of(connection, accounts.user(user))


@router.delete("/accounts/{user}/{device}", status_code=204)
def remove_device(caller: Anybody, database: Database, user: UserInPath, device: DeviceInPath) -> None:
    """Removes a device's account; the broker ends its connection. Its readings stay."""
    caller.may_see(user)
    with database.writing(caller.name) as connection:
        provision.remove_of(connection, accounts.device(user, device))


def _rotate(caller: Caller, database: Connections, account: Account) -> Credential:
    with database.writing(caller.name) as connection:
        provision.check_present(connection, account)
        (made,) = provision.provision_all(connection, [account])
    return Credential.model_validate(made._asdict())
