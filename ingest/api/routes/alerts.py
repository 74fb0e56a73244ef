"""Alerts: as they stand, how they changed, and commands about them."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from ingest.admin import known
from ingest.admin.alerting import alerts as work
from ingest.api import inputs, pages, requests
from ingest.api.callers import Anybody
from ingest.api.inputs import Body, Database, Device, Limit, Moment, User, UserInPath
from ingest.api.models.alerts import Alerts, Changed, Done, History
from ingest.api.pages import Cursor
from ingest.api.problems import Faulty
from tasks.rules.commands import Command, InvalidCommand, parse_command

Status = Literal["PENDING", "TRIGGERED", "FLAPPING", "SNOOZED", "DISABLED"]

router = APIRouter(tags=["alerts"])


@router.get("/alerts")
def list_alerts(
    caller: Anybody,
    database: Database,
    *,
    user: User = None,
    device: Device = None,
    status: Annotated[Status | None, Query(description="Only those that stand so.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Alerts:
    """The alerts that are open, flapping, pending, snoozed or disabled, by user, device and rule."""
    after = pages.place_of(cursor, work.Place)
    selection = work.Selection(caller.only(user), device, status)
    with database.reading() as connection:
        rows = work.page(connection, selection, limit + 1, after)
        found = None if rows or cursor else known.of_alerts(connection, caller.user_id, selection)
    shown, following = pages.cut(rows, limit, work.Place)
    return Alerts.model_validate({"alerts": shown, "next": following, "known": found})


@router.get("/alerts/history")
def history(
    caller: Anybody,
    database: Database,
    *,
    user: User = None,
    device: Device = None,
    status: Annotated[Changed | None, Query(description="Only changes to this.")] = None,
    begin: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> History:
    """The changes of alerts, the newest first."""
    now = datetime.now(UTC)
    before = pages.place_of(cursor, work.Moment)
    selection = work.Selection(
        caller.only(user),
        device,
        status,
        begin=inputs.moment("from", begin, now),
        end=inputs.moment("to", end, now),
    )
    with database.reading() as connection:
        rows = work.history(connection, selection, limit + 1, before)
        found = None if rows or cursor else known.of_changes(connection, caller.user_id, selection)
    shown, following = pages.cut(rows, limit, work.Moment)
    return History.model_validate({"changes": shown, "next": following, "known": found})


@router.post(
    "/alerts/{user}/manage",
    openapi_extra=inputs.document(Command.model_json_schema()),
)
def manage(caller: Anybody, user: UserInPath, document: Body) -> Done:
    """SNOOZE, DISABLE, ENABLE or ACKNOWLEDGE a rule of one device, as on `users/{user}/alerts/manage`."""
    caller.may_see(user)
    check(document)
    answer = requests.ask(caller, "manage", user, document)
    if not answer["ok"]:
        raise Faulty(answer.get("errors", []))
    return Done(ok=True)


def check(document: bytes) -> None:
    """Raises `Faulty` for what is not a command, before it is sent."""
    try:
        parse_command(document)
    except InvalidCommand as error:
        raise Faulty(error.errors) from None
