"""`sluice audit`: what operators have changed."""

from typing import Annotated

import typer

from ingest.cli.arguments import moment
from ingest.cli.printing import AsJson, print_rows


def audit(
    *,
    since: Annotated[str | None, typer.Option(help="Only since then: 90m, 12h, 7d; or a time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most this many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show what operators have changed: accounts, rules, dead letters; who, when and what. Oldest first."""
    from ingest.admin import audit as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    begin = None if since is None else moment("--since", since)
    with session() as connection:
        found = work.entries(connection, begin, limit)
    print_rows(found, work.as_text, as_json=as_json)
