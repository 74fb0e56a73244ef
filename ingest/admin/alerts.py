"""The work of `sluice alerts`: the alerts as they are in `active_alerts`."""

from collections.abc import Iterator
from typing import Any

from psycopg.rows import dict_row

from ingest.admin.postgres import session
from tasks.text.times import in_utc

_COLUMNS = (
    'user_id, device_id, rule_id, status, severity, message, key, operator, threshold, value, "values",'
)
_LIST = f"""
SELECT {_COLUMNS} first_seen, last_seen, count, snoozed_until, alert_id,
       acknowledged_at, acknowledged_by, note
FROM active_alerts WHERE %s::text IS NULL OR user_id = %s
ORDER BY user_id, device_id, rule_id
"""  # noqa: S608 - the names are our own


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
        by = f"  acknowledged by {row['acknowledged_by']}" if row["acknowledged_by"] else ""
        note = f" “{row['note']}”" if row["note"] else ""
        yield (
            f"{row['status']:<{width}}  {row['user_id']}/{row['device_id']}  {row['rule_id']}"
            f"  {row['severity']}: {row['message']}{since}{until}{value}{times}{by}{note}"
        )
