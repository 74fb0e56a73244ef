"""The commands `sluice groups …`. Parses and prints; the work is in `ingest.admin.groups`."""

import json
from typing import Annotated

import typer

from ingest.cli.printing import AsJson, counted, to_stderr, to_stdout

groups_app = typer.Typer(
    help="Groups of a user's devices, which rules name as @GROUP in `devices` and `overrides`. Rules follow a"
    " change within a second.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

User = Annotated[str, typer.Argument(help="The owner of the devices.")]
Name = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name, without the @.")]
Devices = Annotated[list[str] | None, typer.Argument(metavar="DEVICE", help="Ids of devices.")]
FromFile = Annotated[
    str | None,
    typer.Option("--from", metavar="FILE", help="Also those in a file, one on a line; - is stdin."),
]


@groups_app.command()
def add(user: User, group: Name, devices: Devices = None, *, file: FromFile = None) -> None:
    """Add devices to a group, all or none of them. The first one makes the group."""
    from ingest.admin import groups as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from tasks.text.wording import safe  # noqa: PLC0415

    given = _given(devices, file)
    with session() as connection:
        added = work.add(connection, user, group, given)
        strange = work.unknown(connection, user, given)
        total = len(work.members(connection, user, group))
    to_stderr(f"{counted(added, 'device')} added; {user}/{group} has {total}")
    if strange:
        shown = ", ".join(strange[: work.MOST_SHOWN]) + (", …" if len(strange) > work.MOST_SHOWN else "")
        to_stderr(safe(f"without an account and a message so far: {len(strange)} ({shown})"))


@groups_app.command()
def remove(
    user: User,
    group: Name,
    devices: Devices = None,
    *,
    file: FromFile = None,
    every: Annotated[bool, typer.Option("--all", help="All devices, and so the group.")] = False,
) -> None:
    """Remove devices from a group. Their open alerts of rules that are about it alone are resolved."""
    from ingest.admin import groups as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    if every and (devices or file):
        raise typer.BadParameter("--all goes without devices")
    given = None if every else _given(devices, file)
    with session() as connection:
        removed = work.remove(connection, user, group, given)
    to_stderr(f"{counted(removed, 'device')} removed from {user}/{group}")


@groups_app.command("list")
def list_groups(
    user: Annotated[str | None, typer.Argument(help="One user; by default all.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the groups, and how many devices each has."""
    from ingest.admin import groups as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from tasks.text.wording import safe  # noqa: PLC0415

    with session() as connection:
        found = work.listed(connection, user)
    if as_json:
        to_stdout(json.dumps(work.as_json(found), ensure_ascii=False))
        return
    for line in work.as_lines(found):
        to_stdout(safe(line))
    to_stderr(counted(len(found), "group"))


@groups_app.command()
def show(user: User, group: Name, *, as_json: AsJson = False) -> None:
    """Show the devices of a group, one on a line as `add --from` reads them, and the rules that name it."""
    from ingest.admin import groups as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from tasks.text.wording import safe  # noqa: PLC0415

    with session() as connection:
        devices = work.members(connection, user, group)
        rules = work.rules_about(connection, user, group)
    if as_json:
        found = {"user_id": user, "group_name": group, "devices": devices, "rules": rules}
        to_stdout(json.dumps(found, ensure_ascii=False))
        return
    for device in devices:
        to_stdout(safe(device))
    named = f"named by {', '.join(rules)}" if rules else "named by no rule"
    to_stderr(safe(f"{counted(len(devices), 'device')}; {named}"))


def _given(devices: list[str] | None, file: str | None) -> list[str]:
    from ingest.admin import groups as work  # noqa: PLC0415

    found = [*(devices or []), *(work.from_file(file) if file else [])]
    if not found:
        raise typer.BadParameter("give the ids of devices, or a file of them with --from")
    return work.checked(found)
