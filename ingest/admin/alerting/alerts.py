"""The work of `sluice alerts`: the alerts as they are in `active_alerts`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

from psycopg import sql
from psycopg.rows import dict_row

from ingest.admin.postgres import Connection, session
from tasks.text.times import in_utc

_COLUMNS = (
    'user_id, device_id, rule_id, status, severity, message, key, operator, threshold, value, "values",'
)
_LIST = f"""
SELECT {_COLUMNS} first_seen, last_seen, count, snoozed_until, alert_id,
       acknowledged_at, acknowledged_by, note, violated
FROM active_alerts WHERE status <> 'RESOLVED' AND (%s::text IS NULL OR user_id = %s)
ORDER BY user_id, device_id, rule_id
"""  # noqa: S608 - the names are our own
_STANDING: LiteralString = """
user_id, device_id, rule_id, status, severity, message, key, operator, threshold, value, "values",
first_seen, last_seen, count, snoozed_until, alert_id, acknowledged_at, acknowledged_by, note, violated
"""
# The columns of a change, as it is shown.
CHANGE: LiteralString = """
alert_id, status, time, user_id, device_id, rule_id, severity, message, key, operator, threshold,
value, "values", sequence_id, first_seen, last_seen, count, reason, "by", note
"""
_PAGE: LiteralString = """
SELECT {columns} FROM active_alerts WHERE status <> 'RESOLVED' AND {selected}
ORDER BY user_id, device_id, rule_id LIMIT %(limit)s
"""
_WORST: LiteralString = """
SELECT {columns} FROM active_alerts WHERE status IN ('TRIGGERED', 'FLAPPING') AND {selected}
ORDER BY acknowledged_at IS NOT NULL, array_position(ARRAY['critical', 'warning', 'info'], severity),
         first_seen, user_id, device_id, rule_id
LIMIT %(limit)s
"""
_HISTORY: LiteralString = """
SELECT {columns} FROM alert_history WHERE {selected}
ORDER BY time DESC, alert_id DESC, status DESC, severity DESC LIMIT %(limit)s
"""


class Place(NamedTuple):
    """The last alert of a page: the next page begins after it."""

    user_id: str
    device_id: str
    rule_id: str


class Moment(NamedTuple):
    """The last change of a page: the next page begins with what is older."""

    time: datetime
    alert_id: str
    status: str
    severity: str


class Selection(NamedTuple):
    """Selects the alerts, or their changes, that match all of these; the times are those of changes.

    Whether they are acknowledged is of alerts as they stand.
    """

    user_id: str | None = None
    device_id: str | None = None
    status: str | None = None
    rule_id: str | None = None
    acknowledged: bool | None = None
    begin: datetime | None = None
    end: datetime | None = None


def page(
    connection: Connection, selection: Selection, limit: int, after: Place | None = None
) -> list[dict[str, Any]]:
    """At most `limit` alerts as they stand, by user, device and rule. Raises `psycopg.Error`."""
    selected: dict[LiteralString, Any] = {
        **_about(selection),
        "(acknowledged_at IS NOT NULL) = %(acknowledged)s": selection.acknowledged,
        "(user_id, device_id, rule_id) > (%(after_user)s, %(after_device)s, %(after_rule)s)": after,
    }
    values = dict(zip(("after_user", "after_device", "after_rule"), after or (None,) * 3, strict=True))
    return _rows(connection, _PAGE, _STANDING, selected, {**selection._asdict(), **values, "limit": limit})


def worst(connection: Connection, selection: Selection, limit: int) -> list[dict[str, Any]]:
    """At most `limit` open alerts: not acknowledged ones first, then by severity, the oldest first.

    Raises `psycopg.Error`.
    """
    return _rows(connection, _WORST, _STANDING, _about(selection), {**selection._asdict(), "limit": limit})


def history(
    connection: Connection, selection: Selection, limit: int, before: Moment | None = None
) -> list[dict[str, Any]]:
    """At most `limit` changes of alerts, the newest first. Raises `psycopg.Error`."""
    selected: dict[LiteralString, Any] = {
        **_about(selection),
        "time >= %(begin)s": selection.begin,
        "time < %(end)s": selection.end,
        "(time, alert_id, status, severity)"
        " < (%(before_time)s, %(before_alert_id)s, %(before_status)s, %(before_severity)s)": before,
    }
    values = dict(zip((f"before_{name}" for name in Moment._fields), before or (None,) * 4, strict=True))
    return _rows(connection, _HISTORY, CHANGE, selected, {**selection._asdict(), **values, "limit": limit})


def _about(selection: Selection) -> dict[LiteralString, Any]:
    return {
        "user_id = %(user_id)s": selection.user_id,
        "device_id = %(device_id)s": selection.device_id,
        "status = %(status)s": selection.status,
        "rule_id = %(rule_id)s": selection.rule_id,
    }


def _rows(
    connection: Connection,
    query: LiteralString,
    columns: LiteralString,
    selected: dict[LiteralString, Any],
    values: dict[str, Any],
) -> list[dict[str, Any]]:
    conditions = [sql.SQL(text) for text, value in selected.items() if value is not None]
    joined = sql.SQL(" AND ").join([sql.SQL("true"), *conditions])
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            sql.SQL(query).format(columns=sql.SQL(columns), selected=joined), values
        ).fetchall()


def active(user_id: str | None) -> list[dict[str, Any]]:
    """The rows, of all users or of one. Raises `OperatorError`."""
    with session() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_LIST, [user_id, user_id]).fetchall()


def as_text(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each alert: what is wrong, since when, and its state."""
    width = max((len(row["status"]) for row in rows), default=0)
    for row in rows:
        since = "" if row["first_seen"] is None else f"  since {in_utc(row['first_seen'])}"
        snoozed = row["status"] == "SNOOZED" and row["snoozed_until"] is not None
        until = f"  until {in_utc(row['snoozed_until'])}" if snoozed else ""
        values = ", ".join(f"{name} {one}" for name, one in (row["values"] or {}).items())
        value = f"  last {values or row['value']}" if values or row["value"] is not None else ""
        times = f"  count {row['count']}" if row["count"] else ""
        flaps = "" if row["violated"] is None else f"  {'' if row['violated'] else 'not '}violated now"
        by = f"  acknowledged by {row['acknowledged_by']}" if row["acknowledged_by"] else ""
        note = f" “{row['note']}”" if row["note"] else ""
        yield (
            f"{row['status']:<{width}}  {row['user_id']}/{row['device_id']}  {row['rule_id']}"
            f"  {row['severity']}: {row['message']}{since}{until}{value}{times}{flaps}{by}{note}"
        )
