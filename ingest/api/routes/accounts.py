"""The MQTT accounts of devices, of users' programs and of services."""

from fastapi import APIRouter

from ingest.admin import accounts as work
from ingest.admin.accounts import Account
from ingest.api import pages
from ingest.api.callers import Anybody, Caller
from ingest.api.connections import Connections
from ingest.api.inputs import Database, DeviceInPath, Limit, User, UserInPath
from ingest.api.models import Accounts, Credential, Credentials, NewAccounts
from ingest.api.pages import Cursor
from ingest.api.problems import Refused, described

router = APIRouter(tags=["accounts"])


@router.get("/accounts")
def list_accounts(
    caller: Anybody, database: Database, *, user: User = None, limit: Limit = 50, cursor: Cursor = None
) -> Accounts:
    """The accounts by username, without secrets."""
    after = pages.place_of(cursor, work.Place)
    with database.reading() as connection:
        rows = work.page(connection, caller.only(user), limit + 1, after)
    shown, following = pages.cut([row._asdict() for row in rows], limit, work.Place)
    return Accounts.model_validate({"accounts": shown, "next": following})


@router.post("/accounts", status_code=201, responses=described(409))
def create(caller: Anybody, database: Database, wanted: NewAccounts) -> Credentials:
    """Makes the accounts of new devices, or of the user's own programs: all or none."""
    caller.may_see(wanted.user)
    made = [work.device(wanted.user, device) for device in dict.fromkeys(wanted.devices)]
    made = made or [work.user(wanted.user)]
    with database.writing(caller.name) as connection:
        present = work.present(connection, made)
        if present:
            raise Refused(
                409,
                f"There already is an account {min(present)}. `POST /accounts/USER/DEVICE/password` gives"
                " one a new password.",
            )
        credentials = work.provision_all(connection, made)
    return Credentials.model_validate({"accounts": [one._asdict() for one in credentials]})


@router.post("/accounts/{user}/password")
def rotate_user(caller: Anybody, database: Database, user: UserInPath) -> Credential:
    """Gives the account of the user's own programs a new password, and ends the old one."""
    caller.may_see(user)
    return _rotate(caller, database, work.user(user))


@router.post("/accounts/{user}/{device}/password")
def rotate_device(caller: Anybody, database: Database, user: UserInPath, device: DeviceInPath) -> Credential:
    """Gives a device's account a new password, and ends the old one."""
    caller.may_see(user)
    return _rotate(caller, database, work.device(user, device))


@router.delete("/accounts/{user}", status_code=204)
def remove_user(caller: Anybody, database: Database, user: UserInPath) -> None:
    """Removes the account of the user's own programs; the broker ends its connection."""
    caller.may_see(user)
    with database.writing(caller.name) as connection:
        work.remove_of(connection, work.user(user))


@router.delete("/accounts/{user}/{device}", status_code=204)
def remove_device(caller: Anybody, database: Database, user: UserInPath, device: DeviceInPath) -> None:
    """Removes a device's account; the broker ends its connection. Its readings stay."""
    caller.may_see(user)
    with database.writing(caller.name) as connection:
        work.remove_of(connection, work.device(user, device))


def _rotate(caller: Caller, database: Connections, account: Account) -> Credential:
    with database.writing(caller.name) as connection:
        work.check_present(connection, account)
        (made,) = work.provision_all(connection, [account])
    return Credential.model_validate(made._asdict())
