"""The commands `sluice quiet …`. Parses and prints; the work is in `ingest.admin.alerting.quiet`."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.printing import AsJson, counted, to_stderr, to_stdout

quiet_app = typer.Typer(
    help="When channels are silent: quiet hours of users, planned maintenance for all. MQTT and the tables"
    " always have every change.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="The window's name, of your own choice.")]
User = Annotated[str | None, typer.Option(help="Whose alerts.")]
Everyone = Annotated[bool, typer.Option("--everyone", help="The operator's: for every user.")]


@quiet_app.command()
def add(
    name: Name,
    *,
    user: User = None,
    everyone: Everyone = False,
    device: Annotated[str | None, typer.Option(help="Only alerts of this device.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only alerts of this rule, by its rule_id.")] = None,
    severity: Annotated[
        list[str] | None,
        typer.Option(help="Hold back only this severity; may be repeated. By default all."),
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", help="A time of day, such as 22:00; once: a time, by default now."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--until", help="A time of day, next day's if not later, up to 24:00; once: a time."),
    ] = None,
    length: Annotated[str | None, typer.Option("--for", help="Once, for this long: 45m, 2h, 3d.")] = None,
    days: Annotated[
        str | None,
        typer.Option(help="Weekdays on which it starts: mon-fri, or sat,sun. By default all."),
    ] = None,
    zone: Annotated[
        str | None, typer.Option(help="The time zone of times without an offset, such as Europe/Berlin.")
    ] = None,
) -> None:
    """Add a window, recurring (--from 22:00 --until 06:00) or once (--for 2h, or --from and --until)."""
    from ingest.admin.alerting import quiet as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    _one_owner(user, everyone=everyone)
    times = work.when(begin, end, length, days, zone, datetime.now(UTC))
    with session() as connection:
        work.add(connection, name, user, device, rule, severity, times)
    to_stderr("added; `sluice quiet list` shows when it is open")


@quiet_app.command("list")
def list_windows(
    *,
    user: Annotated[str | None, typer.Option(help="Those that concern this user; by default all.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the windows: whose, about what, when, and whether they are open now."""
    from ingest.admin.alerting import quiet as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from tasks.text.wording import safe  # noqa: PLC0415

    with session() as connection:
        rows = work.listed(connection, user)
    if as_json:
        to_stdout(json.dumps(rows, default=datetime.isoformat, ensure_ascii=False))
        return
    for line in work.as_text(rows):
        to_stdout(safe(line))
    to_stderr(counted(len(rows), "window"))


@quiet_app.command()
def remove(name: Name, *, user: User = None, everyone: Everyone = False) -> None:
    """Remove a window. Alerts that it held back and that are still open are sent at once."""
    from ingest.admin.alerting import quiet as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    _one_owner(user, everyone=everyone)
    with session() as connection:
        work.remove(connection, name, user)
    to_stderr(f"{name} is removed")


def _one_owner(user: str | None, *, everyone: bool) -> None:
    if (user is not None) == everyone:
        raise OperatorError("Say whose window it is: --user NAME, or --everyone.")
