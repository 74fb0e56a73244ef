"""The commands `sluice alerts …`. Parses and prints; the work is in `ingest.admin.alerts`."""

import json
from datetime import datetime
from typing import Annotated

import typer

from ingest.cli.printing import AsJson, counted, to_stderr, to_stdout

alerts_app = typer.Typer(help="The alerts in the database.", no_args_is_help=True, rich_markup_mode=None)


@alerts_app.command("list")
def list_alerts(
    *,
    user: Annotated[str | None, typer.Option(help="One user; by default all.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the alerts that are open, pending, snoozed or disabled."""
    from ingest.admin import alerts as work  # noqa: PLC0415

    rows = work.active(user)
    if as_json:
        to_stdout(json.dumps(rows, default=datetime.isoformat, ensure_ascii=False))
        return
    for line in work.as_text(rows):
        to_stdout(line)
    to_stderr(counted(len(rows), "alert"))
