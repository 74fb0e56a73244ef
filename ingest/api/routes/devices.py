"""Devices: the list, one with its newest reading, and one field over time."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query

from ingest.admin import devices as work
from ingest.admin import known
from ingest.admin.rows import series as series_work
from ingest.admin.rows.series_wanted import Aggregate, Wanted
from ingest.api import inputs, pages
from ingest.api.callers import Anybody, Caller
from ingest.api.inputs import Database, DeviceInPath, Domain, Limit, Moment, Text, User, UserInPath
from ingest.api.models.devices import Devices, Latest, Point, Series
from ingest.api.pages import Cursor
from ingest.api.problems import Refused
from tasks import registry
from tasks.domain.domain import AnyDomain
from tasks.text.times import parse_span

DEFAULT_RANGE = timedelta(days=1)

router = APIRouter(tags=["devices"])


@router.get("/devices")
def list_devices(
    caller: Anybody,
    database: Database,
    *,
    user: User = None,
    domain: Domain = None,
    search: Annotated[Text | None, Query(description="Is somewhere in USER/DEVICE.")] = None,
    silent: Annotated[
        Moment, Query(description="Only those of which nothing has come for: `90m`, `7d`.")
    ] = None,
    online: Annotated[
        bool | None, Query(description="Only those that are, or are not, by their last wills.")
    ] = None,
    order: Annotated[
        Literal["silent", "recent"], Query(description="The longest silent first, or the shortest.")
    ] = "silent",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Devices:
    """The devices of which something has come, longest silent first."""
    after = pages.place_of(cursor, work.Place)
    selection = work.Selection(
        caller.only(user),
        None if domain is None else inputs.domain_named(domain).name,
        inputs.moment("silent", silent, datetime.now(UTC)),
        online,
        search,
    )
    with database.reading() as connection:
        rows = work.listed(
            connection,
            selection,
            limit + 1,
            after,
            newest_first=order == "recent",
        )
        found = None if rows or cursor else known.of_devices(connection, caller.user_id, selection)
    shown, following = pages.cut(rows, limit, work.Place)
    return Devices.model_validate(
        {"devices": [_with_path(row) for row in shown], "next": following, "known": found}
    )


@router.get("/devices/{user}/{device:path}/latest")
def latest(
    caller: Anybody, database: Database, user: UserInPath, device: DeviceInPath, *, domain: Domain = None
) -> Latest:
    """One device: its times, its clock, its last refusal, its newest reading and its last 30 days."""
    _, device_id = _device(caller, user, device, domain)
    with database.reading() as connection:
        found = work.show(connection, user, device_id)
    reading = found.pop("latest")
    shown = {**_with_path(found), "reading": None if reading is None else inputs.plain(reading)}
    return Latest.model_validate(shown)


@router.get("/devices/{user}/{device:path}/series")
def series(
    caller: Anybody,
    database: Database,
    user: UserInPath,
    device: DeviceInPath,
    key: Annotated[Text, Query(description="A column, or a dotted path to another field of the payload.")],
    *,
    begin: Annotated[Moment, Query(alias="from", description="By default a day before `to`.")] = None,
    end: Annotated[Moment, Query(alias="to", description="By default now.")] = None,
    bucket: Annotated[
        Text, Query(description="`30s`, `5m`, `1h`, `1d`, `1w`; at most 2,000 in the range.")
    ] = "1h",
    agg: Annotated[Aggregate, Query(description="How a bucket's values become one.")] = "avg",
    domain: Domain = None,
) -> Series:
    """One field of a device over time, in buckets that begin on whole multiples of their length (UTC)."""
    now = datetime.now(UTC)
    chosen, device_id = _device(caller, user, device, domain)
    try:
        until = inputs.moment("to", end, now) or now
        since = inputs.moment("from", begin, now) or until - DEFAULT_RANGE
        wanted = Wanted(key, since, until, parse_span(bucket), agg)
    except (ValueError, OverflowError) as error:
        raise Refused(422, f"`bucket` {error}.") from None
    series_work.check(wanted)
    with database.reading() as connection:
        work.known(connection, user, device_id)
        points = series_work.read(connection, chosen, user, device_id, wanted)
    return Series(
        user_id=user,
        device_id=device_id,
        key=key,
        agg=agg,
        begin=since,
        end=until,
        bucket_seconds=wanted.bucket.total_seconds(),
        points=[Point(time=one.time, value=one.value, count=one.values) for one in points],
    )


def _device(caller: Caller, user: str, device: str, domain: str | None) -> tuple[AnyDomain, str]:
    """The domain and the registry's id of a device. Raises `NotFound` for what is not the caller's."""
    caller.may_see(user)
    chosen = inputs.domain_named(domain)
    return chosen, f"{chosen.prefix}{device}"


def _with_path(row: dict[str, Any]) -> dict[str, Any]:
    domain = next((one for one in registry.domains() if one.name == row["domain"]), None)
    device = row["device_id"] if domain is None else domain.source_id(row["device_id"])
    path = f"/api/v1/devices/{quote(row['user_id'], safe='')}/{quote(device, safe='')}/latest"
    other = domain is not None and domain is not registry.default()
    return {**row, "path": f"{path}?domain={quote(row['domain'])}" if other else path}
