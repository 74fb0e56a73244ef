"""The commands `sluice erase …`. Parses and prints; the work is in `ingest.admin.erasure.erase`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli.printing import AsJson, json_text, progress_bar, to_stderr, to_stdout

if TYPE_CHECKING:
    from ingest.admin.erasure.erase_tables import Target

erase_app = typer.Typer(
    help="Remove what there is of a user or a device: readings, rollups, alerts and their history, the"
    " registry, alert states; of a user also accounts, rules, channels and all else. Without --yes it only"
    " counts, and says what it cannot remove. It may be interrupted and run again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Yes = Annotated[bool, typer.Option("--yes", help="Remove it. There is no way back.")]


@erase_app.command("user")
def erase_user(user: str, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a user with everything. The accounts go first; then nothing may have come for a minute."""
    from ingest.admin.erasure import erase as work  # noqa: PLC0415

    _erase(work.user(user), yes=yes, as_json=as_json)


@erase_app.command("device")
def erase_device(
    user: str,
    device: Annotated[str, typer.Argument(help="As `sluice devices list` names it.")],
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove one device of a user. Its account must be gone, and nothing have come for a minute."""
    from ingest.admin.erasure import erase as work  # noqa: PLC0415

    _erase(work.device(user, device), yes=yes, as_json=as_json)


def _erase(target: "Target", *, yes: bool, as_json: bool) -> None:
    from ingest.admin.erasure import erase as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from tasks.observe import logs  # noqa: PLC0415

    # The log lines of workers' modules do not belong among the results.
    logs.configure(level="ERROR")
    with session() as connection, progress_bar(as_json=as_json) as progress:
        if yes:
            counts, obstacles = work.carry_out(connection, target, progress), []
        else:
            counts, obstacles = work.counts(connection, target), work.obstacles(connection, target)
    remaining = list(work.left(target))
    if as_json:
        found = {target.kind: target.name, "erased": yes, "counts": counts}
        to_stdout(json_text({**found, "obstacles": obstacles, "not_removed": remaining}))
        return
    for name, number in counts.items():
        if number:
            to_stdout(f"{number:>15,}  {name}")
    if not any(counts.values()):
        to_stdout(f"{0:>15}  of {target.name}")
    to_stderr("Not removed:")
    for line in remaining:
        to_stderr(f"- {line}")
    for line in obstacles:
        to_stderr(f"Not yet possible: {line}")
    if not yes:
        to_stderr("Nothing is removed; with --yes it is.")
