"""The commands `sluice devices …`. Parses and prints; the work is in `ingest.admin.devices`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from ingest.cli.arguments import moment
from ingest.cli.printing import AsJson, json_text, print_rows, to_stderr, to_stdout

devices_app = typer.Typer(
    help="The registry of devices: which have sent something, when and how much, and what was refused. The"
    " workers keep it, at most ten seconds behind while they keep up; half a minute with thousands of"
    " active devices.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@devices_app.command("list")
def list_devices(
    *,
    user: Annotated[str | None, typer.Option(help="Only devices of this user.")] = None,
    domain: Annotated[str | None, typer.Option(help="Only devices of this domain.")] = None,
    silent: Annotated[
        str | None, typer.Option(help="Only those of which nothing has come for: 45s, 90m, 12h, 7d.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only those whose last will came.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most this many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the devices, longest silent first."""
    from ingest.admin import devices as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from ingest.admin.rulesets.rules import domain_named  # noqa: PLC0415

    name = None if domain is None else domain_named(domain).name
    since = None if silent is None else moment("--silent", silent)
    selection = work.Selection(user, name, since, online=False if offline else None)
    with session() as connection:
        rows = work.listed(connection, selection, limit)
    print_rows(rows, lambda some: work.as_lines(some, datetime.now(UTC)), "device", as_json=as_json)
    if len(rows) == limit and not as_json:
        to_stderr("--limit shows more")


@devices_app.command()
def show(user: str, device: str, *, as_json: AsJson = False) -> None:
    """Show one device: its times, its clock, its last refusal, its newest reading and its last 30 days."""
    from ingest.admin import devices as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from tasks.text.wording import safe  # noqa: PLC0415

    with session() as connection:
        found = work.show(connection, user, device)
    if as_json:
        to_stdout(json_text(found))
        return
    for line in work.as_text(found, datetime.now(UTC)):
        to_stdout(safe(line))


@devices_app.command()
def forget(user: str, device: str) -> None:
    """Remove a device from the registry; it comes back when it sends. Its readings and its account stay."""
    from ingest.admin import devices as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        work.forget(connection, user, device)
    to_stderr(f"{user}/{device} is no longer in the registry")
