"""The commands `sluice alerts …`. Parses and prints; the work is in `ingest.admin`."""

import json
from typing import Annotated, Any

import typer

from ingest.cli.printing import AsJson, print_rows, to_stderr, to_stdout

alerts_app = typer.Typer(
    help="The alerts in the database, and what can be done about them for their users.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

User = Annotated[str, typer.Argument(help="The user whose device it is.")]
Device = Annotated[str, typer.Argument(help="The device; for a source of another domain, NAME/ID.")]
RuleId = Annotated[str, typer.Argument(metavar="RULE", help="The `id` of the rule, or else its `key`.")]
By = Annotated[str | None, typer.Option(help="Who does it; by default the user of the operating system.")]


@alerts_app.command("list")
def list_alerts(
    *,
    user: Annotated[str | None, typer.Option(help="One user; by default all.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the alerts that are open, pending, snoozed or disabled."""
    from ingest.admin.alerting import alerts as work  # noqa: PLC0415

    print_rows(work.active(user), work.as_text, "alert", as_json=as_json)


@alerts_app.command()
def acknowledge(
    user: User,
    device: Device,
    rule: RuleId,
    *,
    note: Annotated[str | None, typer.Option(help="What others should know.")] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Note on an open alert who has seen it, and why it is open. The alert goes on."""
    _command(user, device, rule, "ACKNOWLEDGE", by, as_json=as_json, note=note)


@alerts_app.command()
def snooze(
    user: User,
    device: Device,
    rule: RuleId,
    minutes: Annotated[float, typer.Argument(help="For how long.")],
    *,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Silence a rule of a device for a while, also before it has an alert."""
    _command(user, device, rule, "SNOOZE", by, as_json=as_json, duration_minutes=minutes)


@alerts_app.command()
def disable(user: User, device: Device, rule: RuleId, *, by: By = None, as_json: AsJson = False) -> None:
    """Stop judging a rule for a device, until `enable`; an open alert ends."""
    _command(user, device, rule, "DISABLE", by, as_json=as_json)


@alerts_app.command()
def enable(user: User, device: Device, rule: RuleId, *, by: By = None, as_json: AsJson = False) -> None:
    """End a snooze, or a `disable`."""
    _command(user, device, rule, "ENABLE", by, as_json=as_json)


def _command(
    user: str, device: str, rule: str, action: str, by: str | None, *, as_json: bool, **more: Any
) -> None:
    from ingest.admin.alerting import alert_commands as work  # noqa: PLC0415
    from tasks.observe import logs  # noqa: PLC0415

    # The log of the queue of requests does not belong among the results.
    logs.configure(level="ERROR")
    document = {"device_id": device, "rule_id": rule, "action": action, **more}
    try:
        answer = work.command(user, document, by)
    except work.CommandFailed as error:
        if not as_json:
            raise
        to_stdout(json.dumps({"ok": False, "errors": error.errors}, ensure_ascii=False))
        raise SystemExit(1) from None
    if as_json:
        to_stdout(json.dumps(answer, ensure_ascii=False))
        return
    to_stderr(f"{action}: done, for the rule {rule} of {user}/{device}")
