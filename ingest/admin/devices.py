"""The work of `sluice devices`: the registry of devices that the workers keep."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, NamedTuple

from psycopg import sql
from psycopg.rows import dict_row

from ingest.admin.audit import note
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from tasks import registry
from tasks.domain.domain import AnyDomain
from tasks.servers.table_names import names
from tasks.text.times import in_utc

DAYS_SHOWN = 30

_COLUMNS: LiteralString = (
    "user_id, device_id, domain, first_seen, last_seen, own_time, clock_skew_ms,"
    " refused_at, refused_type, refused_reason, online, online_at"
)
_LIST = """
SELECT {columns}, coalesce(messages, 0) AS messages_today, coalesce(dead_letters, 0) AS dead_letters_today
FROM devices LEFT JOIN (
    SELECT * FROM device_days WHERE day = (now() AT TIME ZONE 'UTC')::date
) AS today USING (user_id, device_id)
WHERE {selected} ORDER BY {order} LIMIT %(limit)s
"""
_ORDERS: dict[bool, LiteralString] = {
    False: "last_seen, user_id, device_id",
    True: "last_seen DESC, user_id DESC, device_id DESC",
}
_AFTER: dict[bool, LiteralString] = {
    False: "(last_seen, user_id, device_id) > (%(after_seen)s, %(after_user)s, %(after_device)s)",
    True: "(last_seen, user_id, device_id) < (%(after_seen)s, %(after_user)s, %(after_device)s)",
}
_SHOW = f"SELECT {_COLUMNS} FROM devices WHERE user_id = %s AND device_id = %s"  # noqa: S608 - our own names
_DAYS = """
SELECT day, messages, dead_letters FROM device_days
WHERE user_id = %s AND device_id = %s ORDER BY day DESC LIMIT %s
"""
# The reading that came last is stored, so the newest is as new as that, and older ones need not be searched.
_LATEST = """
SELECT * FROM {table} WHERE {owner} = %(user)s AND {source} = %(source)s AND {time} >= %(since)s
ORDER BY {time} DESC LIMIT 1
"""
_FORGET = "DELETE FROM devices WHERE user_id = %s AND device_id = %s"
_FORGET_DAYS = "DELETE FROM device_days WHERE user_id = %s AND device_id = %s"


class NoDevice(OperatorError):
    """The registry has no such device."""


class Place(NamedTuple):
    """The last device of a page: the next page begins after it."""

    last_seen: datetime
    user_id: str
    device_id: str


class Selection(NamedTuple):
    """Selects the devices that match all of these."""

    user_id: str | None = None
    domain: str | None = None
    silent_since: datetime | None = None  # nothing has come since then
    online: bool | None = None  # as their last wills say
    search: str | None = None  # is somewhere in USER/DEVICE, in capitals or not


def listed(
    connection: Connection,
    selection: Selection,
    limit: int,
    after: Place | None = None,
    *,
    newest_first: bool = False,
) -> list[dict[str, Any]]:
    """At most `limit` devices, longest silent first or last, with their counts of today (UTC).

    Raises `psycopg.Error`.
    """
    selected: dict[LiteralString, Any] = {
        "user_id = %(user_id)s": selection.user_id,
        "domain = %(domain)s": selection.domain,
        "last_seen < %(silent_since)s": selection.silent_since,
        "online = %(online)s": selection.online,
        "position(lower(%(search)s) IN lower(user_id || '/' || device_id)) > 0": selection.search,
        _AFTER[newest_first]: after,
    }
    conditions = [sql.SQL(text) for text, value in selected.items() if value is not None]
    query = sql.SQL(_LIST).format(
        columns=sql.SQL(_COLUMNS),
        selected=sql.SQL(" AND ").join([sql.SQL("true"), *conditions]),
        order=sql.SQL(_ORDERS[newest_first]),
    )
    values = {**selection._asdict(), "limit": limit}
    values |= dict(zip(("after_seen", "after_user", "after_device"), after or (None,) * 3, strict=True))
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()


def show(connection: Connection, user_id: str, device_id: str) -> dict[str, Any]:
    """One device, with `days`, the newest first, and `latest`, its newest reading (null if it has none).

    Raises `NoDevice`, `psycopg.Error`.
    """
    found = known(connection, user_id, device_id)
    with connection.cursor(row_factory=dict_row) as cursor:
        days = cursor.execute(_DAYS, [user_id, device_id, DAYS_SHOWN]).fetchall()
    return {**found, "days": days, "latest": latest(connection, found)}


def known(connection: Connection, user_id: str, device_id: str) -> dict[str, Any]:
    """One device, as the registry has it. Raises `NoDevice`, `psycopg.Error`."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_SHOW, [user_id, device_id]).fetchone()
    if found is None:
        raise _unknown(user_id, device_id)
    return found


def latest(connection: Connection, device: dict[str, Any]) -> dict[str, Any] | None:
    """The newest reading of a listed device, as a row of its table. Raises `psycopg.Error`."""
    domain = next((one for one in registry.domains() if one.name == device["domain"]), None)
    if domain is None or device["own_time"] is None:
        return None
    values = {
        "user": device["user_id"],
        "source": domain.source_id(device["device_id"]),
        "since": device["own_time"],
    }
    query = _latest(domain)
    with connection.cursor(row_factory=dict_row) as cursor:
        # The reading may have been refused by the database, or removed since: then any older one counts.
        return (
            cursor.execute(query, values).fetchone()
            or cursor.execute(query, {**values, "since": datetime.min.replace(tzinfo=UTC)}).fetchone()
        )


def forget(connection: Connection, user_id: str, device_id: str) -> None:
    """Removes the device from the registry, with a line in the audit trail. It comes back when it sends.

    Raises `NoDevice`, `psycopg.Error`.
    """
    with connection.transaction():
        if not connection.execute(_FORGET, [user_id, device_id]).rowcount:
            raise _unknown(user_id, device_id)
        connection.execute(_FORGET_DAYS, [user_id, device_id])
        note(connection, "FORGET", "devices", f"{user_id}/{device_id}", {})


def as_lines(rows: list[dict[str, Any]], now: datetime) -> Iterator[str]:
    """One line for each device: for how long it has been silent, what came today, what was refused last."""
    for row in rows:
        refused = "" if row["refused_at"] is None else f"  last refused {in_utc(row['refused_at'])}"
        reason = f" {row['refused_type']}" if refused else ""
        yield (
            f"{span(now - row['last_seen']):>7}  {row['user_id']}/{row['device_id']}  {row['domain']}"
            f"  today: readings {row['messages_today']:,}, dead letters {row['dead_letters_today']:,}"
            f"{_presence(row, now)}{refused}{reason}"
        )


def _presence(row: dict[str, Any], now: datetime) -> str:
    """For how long a device is known not to be there; nothing if it is, or if nothing says so."""
    return f"  offline for {span(now - row['online_at'])}" if row["online"] is False else ""


def as_text(device: dict[str, Any], now: datetime) -> Iterator[str]:
    """One device, an item on each line."""
    yield f"device      {device['user_id']}/{device['device_id']}  {device['domain']}"
    yield f"last seen   {in_utc(device['last_seen'])}, {span(now - device['last_seen'])} ago"
    yield f"first seen  {in_utc(device['first_seen'])}"
    if device["online"] is not None:
        yield f"presence    {'online' if device['online'] else 'offline'} since {in_utc(device['online_at'])}"
    if device["own_time"] is not None:
        yield f"own time    {in_utc(device['own_time'])} of the reading that came last"
    if device["clock_skew_ms"] is not None:
        yield f"clock       {device['clock_skew_ms'] / 1000:+,.3f} s when it last sent"
    if device["refused_at"] is not None:
        why = f"{device['refused_type']}: {device['refused_reason']}"
        yield f"refused     {in_utc(device['refused_at'])}  {why}"
    for name, value in (device["latest"] or {}).items():
        yield f"latest      {name} {value}"
    for day in device["days"]:
        yield f"{day['day']}  readings {day['messages']:,}, dead letters {day['dead_letters']:,}"


def span(length: timedelta) -> str:
    """A duration, in its largest unit, such as `3 d`."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _latest(domain: AnyDomain) -> sql.Composed:
    return sql.SQL(_LATEST).format(**names(domain))


def _unknown(user_id: str, device_id: str) -> NoDevice:
    return NoDevice(
        f"There is no device {user_id}/{device_id} in the registry. `sluice devices list --user {user_id}`"
        " shows which there are; a device is there a few seconds after its first message."
    )
