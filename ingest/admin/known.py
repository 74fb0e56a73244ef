"""The existing values, for filters that match nothing; the most frequent first."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg import sql
from psycopg.rows import dict_row

from ingest.admin import devices
from ingest.admin.alerting import alerts
from ingest.admin.postgres import Connection

# Only the newest rows are read: an answer that found nothing must not take long to say so.
MOST_READ = 10_000
MOST_NAMED = 10

Known = dict[str, list[str]]
"""The values by the name of the filter; for times the first and the last, by what they are the times of."""

_DEVICES: LiteralString = """
SELECT user_id AS "user", user_id || '/' || device_id AS search, domain, last_seen,
       coalesce(online::text, 'unknown') AS online
FROM devices WHERE {own} ORDER BY last_seen DESC LIMIT %(limit)s
"""
_ALERTS: LiteralString = """
SELECT user_id AS "user", device_id AS device, status,
       CASE WHEN acknowledged_at IS NULL THEN 'no' ELSE 'yes' END AS acknowledged
FROM active_alerts WHERE status <> 'RESOLVED' AND {own} LIMIT %(limit)s
"""
_CHANGES: LiteralString = """
SELECT user_id AS "user", device_id AS device, status, time
FROM alert_history WHERE {own} ORDER BY time DESC LIMIT %(limit)s
"""


def of_devices(connection: Connection, tenant: str | None, chosen: devices.Selection) -> Known | None:
    """Values of the tenant's devices, or of all for the operator; None without a filter.

    Raises `psycopg.Error`.
    """
    wanted = {
        "user": chosen.user_id,
        "domain": chosen.domain,
        "search": chosen.search,
        "online": chosen.online,
        "last_seen": chosen.silent_since,
    }
    return _of(connection, _DEVICES, tenant, wanted)


def of_alerts(connection: Connection, tenant: str | None, chosen: alerts.Selection) -> Known | None:
    """Values of the tenant's current alerts, likewise."""
    wanted = {
        "user": chosen.user_id,
        "device": chosen.device_id,
        "status": chosen.status,
        "acknowledged": chosen.acknowledged,
    }
    return _of(connection, _ALERTS, tenant, wanted)


def of_changes(connection: Connection, tenant: str | None, chosen: alerts.Selection) -> Known | None:
    """Values of the changes of the tenant's alerts, likewise."""
    wanted = {
        "user": chosen.user_id,
        "device": chosen.device_id,
        "status": chosen.status,
        "time": chosen.begin or chosen.end,
    }
    return _of(connection, _CHANGES, tenant, wanted)


def values(rows: Sequence[Mapping[str, Any]], wanted: Iterable[str], user: str | None) -> Known:
    """The rows' values for each wanted name; only those of the user, where there are any."""
    own = [row for row in rows if row["user"] == user]
    return {name: _named([row[name] for row in (rows if name == "user" else own or rows)]) for name in wanted}


def _of(
    connection: Connection, query: LiteralString, tenant: str | None, wanted: Mapping[str, object]
) -> Known | None:
    # A tenant's own name is not a filter.
    names = [
        name for name, value in wanted.items() if value is not None and (name != "user" or tenant is None)
    ]
    if not names:
        return None
    own = sql.SQL("true" if tenant is None else "user_id = %(tenant)s")
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            sql.SQL(query).format(own=own), {"tenant": tenant, "limit": MOST_READ}
        ).fetchall()
    user = wanted["user"]
    return values(rows, names, None if user is None else str(user))


def _named(found: list[Any]) -> list[str]:
    times = [one for one in found if isinstance(one, datetime)]
    if times:
        return [f"{one.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for one in (min(times), max(times))]
    return [str(value) for value, _ in Counter(found).most_common(MOST_NAMED)]
