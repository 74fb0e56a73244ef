"""A user's alert rules."""

from fastapi import APIRouter

from ingest.admin import rules as work
from ingest.api.callers import Anybody
from ingest.api.inputs import Database, UserInPath
from ingest.api.models import Rules
from ingest.api.problems import described

router = APIRouter(tags=["rules"])


@router.get("/rules/{user}", responses=described(404))
def rules(caller: Anybody, database: Database, user: UserInPath) -> Rules:
    """The user's rules as they are stored; none are an empty list."""
    with database.reading() as connection:
        return Rules.model_validate(work.stored(connection, caller.may_see(user)))
