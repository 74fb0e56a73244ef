"""Devices: the list by silence, and one with its values over time."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BeforeValidator

from ingest.admin import devices as work
from ingest.admin import known
from ingest.admin.alerting import alerts
from ingest.admin.rows import series
from ingest.admin.rows.series_wanted import Wanted
from ingest.api import inputs, pages
from ingest.api.connections import Connections
from ingest.api.inputs import Database
from ingest.api.problems import Refused
from ingest.console import chart, render
from ingest.console.guard import Cursor, Id, Visiting, Word
from tasks import registry
from tasks.domain.domain import AnyDomain

PER_PAGE = 50
ALERTS_SHOWN = 20

Order = Annotated[Literal["silent", "recent"], BeforeValidator(lambda value: value or "silent"), Query()]
Range = Annotated[Literal["hour", "day", "month"], BeforeValidator(lambda value: value or "day"), Query()]

router = APIRouter()


@router.get("/devices")
def listed(
    request: Request,
    visitor: Visiting,
    database: Database,
    *,
    search: Word = None,
    silent: Word = None,
    order: Order = "silent",
    cursor: Cursor = None,
) -> Response:
    """The devices, longest silent first or last, page by page."""
    after = pages.place_of(cursor, work.Place)
    selection = work.Selection(
        visitor.caller.only(None),
        None,
        inputs.moment("silent", silent, datetime.now(UTC)),
        None,
        search,
    )
    with database.reading() as connection:
        rows = work.listed(connection, selection, PER_PAGE + 1, after, newest_first=order == "recent")
        found = None if rows or cursor else known.of_devices(connection, visitor.caller.user_id, selection)
    shown, following = pages.cut(rows, PER_PAGE, work.Place)
    return render.page(
        "devices.html",
        request,
        devices=shown,
        known=found,
        search=search or "",
        silent=silent or "",
        order=order,
        first=cursor is None,
        following=following,
    )


@router.get("/device")
def one(
    request: Request,
    visitor: Visiting,
    database: Database,
    *,
    user: Id,
    device: Id,
    key: Word = None,
    span: Range = "day",
) -> Response:
    """One device: its newest reading, a chart, its alerts, what of it was refused."""
    visitor.caller.may_see(user)
    chosen = next(one for one in chart.SPANS if one.name == span)
    with database.reading() as connection:
        found = work.show(connection, user, device)
        opened = alerts.page(connection, alerts.Selection(user, device), ALERTS_SHOWN)
        changes = alerts.history(connection, alerts.Selection(user, device), ALERTS_SHOWN)
    keys, over_time = _series(database, found, key, chosen)
    return render.page(
        "device.html",
        request,
        device=found,
        alerts=opened,
        changes=changes,
        keys=keys,
        span=span,
        spans=[one.name for one in chart.SPANS],
        **over_time,
    )


def _series(
    database: Connections, device: dict[str, Any], key: str | None, span: chart.Span
) -> tuple[list[str], dict[str, Any]]:
    """The fields that have numbers, and one of them over time; or why there is none."""
    empty: dict[str, Any] = {"key": key or "", "points": [], "drawn": None, "fault": ""}
    domain = next((one for one in registry.domains() if one.name == device["domain"]), None)
    if domain is None:
        return [], {**empty, "fault": f"The domain {device['domain']} is not among DOMAINS any more."}
    keys = _numeric(domain, device["latest"])
    if not (chosen := key or next(iter(keys), "")):
        return keys, empty
    end = datetime.now(UTC)
    wanted = Wanted(chosen, end - span.length, end, span.bucket, "avg")
    try:
        with database.reading() as connection:
            points = series.read(connection, domain, device["user_id"], device["device_id"], wanted)
    except (series.BadSeries, Refused) as error:
        # The rest of the page is there.
        return keys, {**empty, "key": chosen, "fault": str(error)}
    drawn = chart.draw(points, wanted.begin, end, span) if points else None
    return keys, {**empty, "key": chosen, "points": points, "drawn": drawn}


def _numeric(domain: AnyDomain, latest: dict[str, Any] | None) -> list[str]:
    """The columns with numbers but for the sequence, and the numbers beside them in the newest reading."""
    columns = [
        name
        for name in domain.columns
        if domain.sql_types.get(name) in series.NUMERIC and name != "sequence_id"
    ]
    extra = (latest or {}).get(domain.extra or "") or {}
    return columns + [
        name for name, value in extra.items() if type(value) in {int, float} and "." not in name
    ]
