"""Alerts: as they stand, how they changed, and one with what may be done about it."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BeforeValidator

from ingest.admin import known
from ingest.admin.alerting import alert_deliveries
from ingest.admin.alerting import alerts as work
from ingest.api import inputs, pages
from ingest.api.inputs import Database
from ingest.api.problems import NotFound, Refused
from ingest.api.routes.alerts import check, manage
from ingest.console import render
from ingest.console.guard import Cursor, Form, Id, Visiting, Word
from tasks.text.wording import printable

PER_PAGE = 50
CHANGES_SHOWN = 50
DELIVERIES_SHOWN = 200


class View(NamedTuple):
    """A list of alerts: how it is called, and what it selects."""

    name: str
    status: str | None = None
    acknowledged: bool | None = None


VIEWS = {
    "open": View("Open", "TRIGGERED", acknowledged=False),
    "acknowledged": View("Acknowledged", acknowledged=True),
    "flapping": View("Flapping", "FLAPPING"),
    "snoozed": View("Snoozed", "SNOOZED"),
    "disabled": View("Disabled", "DISABLED"),
    "all": View("All"),
}
DONE = {
    "ACKNOWLEDGE": "The alert is acknowledged.",
    "SNOOZE": "The rule is snoozed for this device.",
    "DISABLE": "The rule is disabled for this device.",
    "ENABLE": "The rule is enabled for this device.",
}

Which = Annotated[
    Literal["open", "acknowledged", "flapping", "snoozed", "disabled", "all"],
    BeforeValidator(lambda value: value or "open"),
    Query(),
]

router = APIRouter()


@router.get("/alerts")
def listed(
    request: Request,
    visitor: Visiting,
    database: Database,
    *,
    view: Which = "open",
    user: Word = None,
    cursor: Cursor = None,
) -> Response:
    """The alerts that stand so, page by page."""
    after = pages.place_of(cursor, work.Place)
    chosen = VIEWS[view]
    selection = work.Selection(
        visitor.caller.only(user), status=chosen.status, acknowledged=chosen.acknowledged
    )
    with database.reading() as connection:
        rows = work.page(connection, selection, PER_PAGE + 1, after)
        found = None if rows or cursor else known.of_alerts(connection, visitor.caller.user_id, selection)
    shown, following = pages.cut(rows, PER_PAGE, work.Place)
    return render.page(
        "alerts.html",
        request,
        alerts=shown,
        known=found,
        view=view,
        views=VIEWS,
        user=user or "",
        first=cursor is None,
        following=following,
    )


@router.get("/alerts/history")
def history(
    request: Request,
    visitor: Visiting,
    database: Database,
    *,
    user: Word = None,
    device: Word = None,
    since: Word = None,
    cursor: Cursor = None,
) -> Response:
    """The changes of alerts, the newest first, page by page."""
    before = pages.place_of(cursor, work.Moment)
    selection = work.Selection(
        visitor.caller.only(user), device, begin=inputs.moment("since", since, datetime.now(UTC))
    )
    with database.reading() as connection:
        rows = work.history(connection, selection, PER_PAGE + 1, before)
        found = None if rows or cursor else known.of_changes(connection, visitor.caller.user_id, selection)
    shown, following = pages.cut(rows, PER_PAGE, work.Moment)
    return render.page(
        "history.html",
        request,
        changes=shown,
        known=found,
        views=VIEWS,
        user=user or "",
        device=device or "",
        since=since or "",
        first=cursor is None,
        following=following,
    )


@router.get("/alert")
def one(
    request: Request,
    visitor: Visiting,
    database: Database,
    *,
    user: Id,
    device: Id,
    rule: Id,
    done: Word = None,
) -> Response:
    """One rule of one device: as it stands, its changes, and the commands about it."""
    visitor.caller.may_see(user)
    return _one(request, database, user, device, rule, done=DONE.get(done or "", ""))


@router.post("/alert")
def command(request: Request, visitor: Visiting, database: Database, given: Form) -> Response:
    """Executes a command about one rule of one device. A note with a snooze acknowledges the alert, too."""
    user, device, rule = (given.get(name, "") for name in ("user", "device", "rule"))
    visitor.caller.may_see(user)
    action, note = given.get("action", ""), given.get("note", "").strip()
    sent: list[str] = []
    try:
        more: dict[str, Any] = {"note": note} if note and action == "ACKNOWLEDGE" else {}
        if action == "SNOOZE":
            more["duration_minutes"] = _minutes(given.get("minutes", ""))
        documents = [_document(device, rule, action, **more)]
        if note and action != "ACKNOWLEDGE":
            documents.insert(0, _document(device, rule, "ACKNOWLEDGE", note=note))
        # All of them before the first is sent.
        for document in documents:
            check(document)
        for document in documents:
            manage(visitor.caller, user, document)
            sent.append("ACKNOWLEDGE" if document is not documents[-1] else action)
    except Refused as error:
        if isinstance(error, NotFound):
            raise
        done = "".join(f"{DONE[one]} The rest was not done." for one in sent)
        return _one(request, database, user, device, rule, done=done, error=error)
    back = render.url("/alert", user=user, device=device, rule=rule, done=action)
    return RedirectResponse(back, 303, {"cache-control": "no-store"})


def _document(device: str, rule: str, action: str, **more: Any) -> bytes:
    return json.dumps({"device_id": device, "rule_id": rule, "action": action, **more}).encode()


def _minutes(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refused(422, f"A snooze needs a number of minutes; got {printable(text)}.") from None


def _one(
    request: Request,
    database: Database,
    user: str,
    device: str,
    rule: str,
    *,
    done: str = "",
    error: Refused | None = None,
) -> Response:
    selection = work.Selection(user, device, rule_id=rule)
    with database.reading() as connection:
        standing = work.page(connection, selection, 1)
        changes = work.history(connection, selection, CHANGES_SHOWN)
        alert_ids = {one["alert_id"] for one in (*standing, *changes)}
        deliveries = alert_deliveries.of_alerts(
            connection, user, device, rule, sorted(alert_ids), DELIVERIES_SHOWN + 1
        )
    if not standing and not changes:
        raise NotFound("There is no alert of this rule and device.")
    return render.page(
        "alert.html",
        request,
        status=200 if error is None else error.status,
        alert=standing[0] if standing else None,
        changes=changes,
        deliveries=deliveries[:DELIVERIES_SHOWN],
        more_deliveries=len(deliveries) > DELIVERIES_SHOWN,
        user=user,
        device=device,
        rule=rule,
        done=done,
        faults=render.faults(error),
    )
