"""The trail of what operators have changed: noted by the commands, read by `sluice audit`."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from ingest.admin.postgres import Connection
from tasks.text.times import in_utc

_LIST = """
SELECT at, role, os_user, application, action, subject, key, before, after
FROM operator_audit WHERE at >= coalesce(%s, '-infinity'::timestamptz) ORDER BY at DESC, id DESC LIMIT %s
"""


def note(connection: Connection, action: str, subject: str, key: str, arguments: dict[str, Any]) -> None:
    """Records an operator's command that the audit triggers on the tables do not record completely."""
    connection.execute(
        "INSERT INTO operator_audit (action, subject, key, after) VALUES (%s, %s, %s, %s)",
        [action, subject, key, json.dumps(arguments)],
    )


def entries(connection: Connection, since: datetime | None, limit: int) -> list[dict[str, Any]]:
    """The newest `limit` entries since then, oldest first. Raises `psycopg.Error`."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_LIST, [since, limit]).fetchall()[::-1]


def as_text(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each entry: when, who, and the values before and after."""
    for row in rows:
        who = row["role"] if row["os_user"] is None else f"{row['role']} ({row['os_user']})"
        before, after = (json.dumps(row[name], ensure_ascii=True) for name in ("before", "after"))
        change = after if row["before"] is None else f"{before} -> {after}"
        key = json.dumps(row["key"]) if row["key"] else ""
        yield (f"{in_utc(row['at'])}  {who}  {row['action']} {row['subject']} {key}  {change}")
