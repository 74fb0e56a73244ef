"""`sluice audit`: what operators have changed."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.printing import AsJson, to_stdout


def audit(
    *,
    since: Annotated[str | None, typer.Option(help="Only since then: 90m, 12h, 7d; or a time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most this many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show what operators have changed: accounts, rules, dead letters; who, when and what. Oldest first."""
    from ingest.admin import audit as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    begin = None if since is None else _moment(since)
    with session() as connection:
        found = work.entries(connection, begin, limit)
    if as_json:
        to_stdout(json.dumps(found, default=datetime.isoformat, ensure_ascii=False))
        return
    for line in work.as_text(found):
        to_stdout(line)


def _moment(text: str) -> datetime:
    from tasks.text.times import parse_moment  # noqa: PLC0415

    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise OperatorError(f"--since {error}.") from None
