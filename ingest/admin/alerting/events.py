"""The latest changes: those of alerts in the order in which they were written, and devices."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import dict_row

from ingest.admin.alerting.alerts import CHANGE
from ingest.admin.postgres import Connection

# Others see a row when its transaction ends: each look goes back this far to find those that end late.
LATE_SECONDS = 15.0
# Devices from which something has arrived in this time are reported.
DEVICE_SECONDS = 60.0

_CHANGES: LiteralString = f"""
SELECT {CHANGE}, recorded_at FROM alert_history
WHERE recorded_at > %(since)s AND (%(users)s::text[] IS NULL OR user_id = ANY (%(users)s::text[]))
ORDER BY recorded_at, "number", alert_id, status, time LIMIT %(most)s
"""  # noqa: S608 - constants
_DEVICES = """
SELECT user_id, device_id, domain, last_seen, refused_at, online
FROM devices
WHERE greatest(last_seen, online_at) > now() - %(seconds)s * interval '1 second'
    AND (%(users)s::text[] IS NULL OR user_id = ANY (%(users)s::text[]))
ORDER BY last_seen DESC LIMIT %(most)s
"""


def now(connection: Connection) -> datetime:
    """The database's time, by which changes are written. Raises `psycopg.Error`."""
    row: Any = connection.execute("SELECT clock_timestamp()").fetchone()
    at: datetime = row[0]
    return at


def changes(
    connection: Connection, users: Sequence[str] | None, since: datetime, most: int
) -> list[dict[str, Any]]:
    """Changes of alerts that were written after `since`, the oldest first, of these users or of all."""
    given = {"users": None if users is None else list(users), "since": since, "most": most}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_CHANGES, given).fetchall()


def devices(connection: Connection, users: Sequence[str] | None, most: int) -> list[dict[str, Any]]:
    """Devices that have sent something in the last minute, the latest first, of these users or of all."""
    given = {"users": None if users is None else list(users), "seconds": DEVICE_SECONDS, "most": most}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_DEVICES, given).fetchall()
