"""The deliveries of an alert: its changes on their way to the channels of its user."""

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg.rows import dict_row

from ingest.admin.postgres import Connection

# By the unique index of the deliveries, once for each channel of the user, of which there are 20 at most.
_DELIVERIES: LiteralString = """
SELECT c.name, c.kind, d.status, d.rise, d.time, d.state, d.attempts_before + d.attempts AS attempts, d.why,
       d.done_at,
       CASE WHEN d.state = 'waiting' THEN d.next_at END AS next_at,
       CASE WHEN d.state = 'held' THEN d.held_until END AS held_until
FROM channels AS c JOIN channel_deliveries AS d ON d.channel_id = c.id
WHERE c.user_id = %s AND d.alert_id = ANY(%s) AND d.device_id = %s AND d.rule_id = %s
ORDER BY d.time DESC, d.id DESC LIMIT %s
"""


def of_alerts(
    connection: Connection, user_id: str, device_id: str, rule_id: str, alert_ids: Sequence[str], limit: int
) -> list[dict[str, Any]]:
    """What became of the changes of these alerts of one rule and device, the newest first, by channel.

    Channels by name and kind: neither where they lead nor what signs their messages is read, and nothing of
    other users' channels. Raises `psycopg.Error`.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        about = [user_id, list(alert_ids), device_id, rule_id, limit]
        return cursor.execute(_DELIVERIES, about).fetchall()
