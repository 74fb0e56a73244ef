"""A message that tries a channel: it says that it is a test, and nothing of it is kept."""

import uuid
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import dict_row

from tasks.channels import attempt, message
from tasks.channels.claim import Claim
from tasks.channels.outcome import Outcome
from tasks.channels.tables import pace
from tasks.rules.change import iso
from tasks.servers import database
from tasks.settings import settings

_FIND = """
SELECT id, user_id, name, kind, target, secret, template FROM channels WHERE user_id = %s AND name = %s
"""
# It counts for the user's rate, as every message does.
_BILL = """
INSERT INTO channel_users AS u (user_id, free_at)
VALUES (%(user)s, now() + %(gap)s * interval '1 second')
ON CONFLICT (user_id) DO UPDATE SET free_at = greatest(u.free_at, now()) + %(gap)s * interval '1 second'
WHERE u.free_at <= now() + %(burst)s * interval '1 second'
"""


class CannotTry(Exception):
    """The channel was not tried; the message says why."""


def tell(user_id: str, name: str) -> Outcome:
    """Tries a user's channel from here. Raises `CannotTry`, `psycopg.Error`."""
    with database.access() as connection, connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_FIND, [user_id, name]).fetchone()
        if row is None:
            raise CannotTry("there is no such channel")
        billed = cursor.execute(_BILL, {"user": user_id} | pace())
        if not billed.rowcount:
            raise CannotTry(
                f"the user's channels may make {settings().channel_messages_per_minute:g} attempts per minute"
                " (CHANNEL_MESSAGES_PER_MINUTE), and have made them"
            )
    return attempt.attempt(claim_of(row, datetime.now(UTC)))


def claim_of(row: dict[str, Any], now: datetime) -> Claim:
    """The claim that the senders get for a channel's row of the table."""
    notice = dict.fromkeys(message.FIELDS) | {
        "alert_id": str(uuid.uuid4()),
        "status": "TEST",
        "severity": "info",
        "user_id": row["user_id"],
        "device_id": "test",
        "rule_id": "test",
        "message": "This is a test of the channel.",
        "time": iso(now),
        "count": 0,
    }
    of_row = {name: row[name] for name in ("user_id", "name", "kind", "target", "secret", "template")}
    return Claim(delivery=0, channel=row["id"], attempts=1, failures=0, notice=notice, **of_row)
