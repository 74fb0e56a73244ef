"""The MQTT accounts of devices, of users' programs and of services."""

from fastapi import APIRouter

from ingest.admin import accounts as work
from ingest.api import inputs
from ingest.api.callers import Anybody
from ingest.api.inputs import Cursor, Database, Limit, User
from ingest.api.models import Accounts

router = APIRouter(tags=["accounts"])


@router.get("/accounts")
def list_accounts(
    caller: Anybody, database: Database, *, user: User = None, limit: Limit = 50, cursor: Cursor = None
) -> Accounts:
    """The accounts by username, without secrets."""
    after = inputs.values_of(cursor, 1, timed=False)
    with database.reading() as connection:
        rows = work.page(connection, caller.only(user), limit + 1, None if after is None else after[0])
    shown = [row._asdict() for row in rows[:limit]]
    following = inputs.cursor_of(shown[-1]["username"]) if len(rows) > limit else None
    return Accounts.model_validate({"accounts": shown, "next": following})
