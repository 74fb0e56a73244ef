"""The command `sluice audit`, and the notes of commands in the trail that it shows."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.admin.errors import OperatorError

if TYPE_CHECKING:
    from ingest.admin.postgres import Connection

_LIST = """
SELECT at, role, os_user, application, action, subject, key, before, after
FROM operator_audit WHERE at >= coalesce(%s, '-infinity'::timestamptz) ORDER BY at DESC, id DESC LIMIT %s
"""


def audit(
    *,
    since: Annotated[str | None, typer.Option(help="Only since: as in 90m, 12h, 7d; or a time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most so many, the newest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to stdout.")] = False,
) -> None:
    """Show what operators have changed: accounts, rules, dead letters; who, when and what. Oldest first."""
    from psycopg.rows import dict_row  # noqa: PLC0415

    from ingest.admin.postgres import session  # noqa: PLC0415

    begin = None if since is None else _moment(since)
    with session() as connection, connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_LIST, [begin, limit]).fetchall()[::-1]
    if as_json:
        typer.echo(json.dumps(found, default=datetime.isoformat, ensure_ascii=False))
        return
    for line in as_text(found):
        typer.echo(line)


def note(connection: "Connection", action: str, subject: str, key: str, arguments: dict[str, Any]) -> None:
    """Records an operator's command that the audit triggers on the tables do not record completely."""
    connection.execute(
        "INSERT INTO operator_audit (action, subject, key, after) VALUES (%s, %s, %s, %s)",
        [action, subject, key, json.dumps(arguments)],
    )


def as_text(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each entry: when, who, and the values before and after."""
    for row in rows:
        who = row["role"] if row["os_user"] is None else f"{row['role']} ({row['os_user']})"
        before, after = (json.dumps(row[name], ensure_ascii=True) for name in ("before", "after"))
        change = after if row["before"] is None else f"{before} -> {after}"
        key = json.dumps(row["key"]) if row["key"] else ""
        yield (
            f"{row['at'].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC  {who}  {row['action']} {row['subject']}"
            f" {key}  {change}"
        )


def _moment(text: str) -> datetime:
    from tasks.text.times import parse_moment  # noqa: PLC0415

    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise OperatorError(f"--since {error}.") from None
