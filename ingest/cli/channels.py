"""The commands `sluice channels …`. Parses and prints; the work is in `ingest.admin.alerting.channels`."""

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.printing import AsJson, counted, print_rows, to_stderr, to_stdout

channels_app = typer.Typer(
    help="Where a user's alerts are sent besides MQTT: signed webhooks, mail, services that Apprise knows.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="The channel's name, of the user's own choice.")]


@channels_app.command()
def add(
    user: str,
    name: Name,
    kind: Annotated[str, typer.Argument(help="webhook, mail or apprise.")],
    target: Annotated[
        str, typer.Argument(help="A URL, or a mail address; - reads it from stdin, where it is a secret.")
    ] = "-",
    *,
    severity: Annotated[
        list[str] | None, typer.Option(help="Only alerts of this severity; may be repeated.")
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            help="Only changes to this status; may be repeated. By default TRIGGERED, FLAPPING, ESCALATED"
            " and RESOLVED."
        ),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="The text, with $fields of the alert, such as '$device_id: $message'.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a channel. A webhook's secret is printed once: the receiver verifies the signatures with it."""
    from ingest.admin.alerting import channels as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    chosen = sys.stdin.readline().strip() if target == "-" else target
    with session() as connection:
        secret = work.add(
            connection, user, name, kind, chosen, severities=severity, statuses=status, template=template
        )
    if as_json:
        told = {"user": user, "name": name, "kind": kind}
        to_stdout(json.dumps(told | ({"secret": secret} if kind == "webhook" else {})))
    elif kind == "webhook":
        to_stdout(secret)
    to_stderr(f"added; `sluice channels test {user} {name}` sends a message to try it")


@channels_app.command("list")
def list_channels(
    *,
    user: Annotated[str | None, typer.Option(help="One user; by default all.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the channels, and how many messages were sent, wait and have failed; without their secrets."""
    from ingest.admin.alerting import channels as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        rows = work.listed(connection, user)
    print_rows(rows, work.as_text, "channel", as_json=as_json)


@channels_app.command()
def log(
    user: str,
    name: Name,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most this many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show what became of each message of a channel, newest first."""
    from ingest.admin.alerting import channels as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        rows = work.deliveries(connection, user, name, limit)
    print_rows(rows, work.log_lines, "message", as_json=as_json)


@channels_app.command()
def remove(user: str, name: Name) -> None:
    """Remove a channel, and what waits for it."""
    from ingest.admin.alerting import channels as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        work.remove(connection, user, name)
    to_stderr(f"{user}/{name} is removed")


@channels_app.command()
def test(user: str, name: Name) -> None:
    """Send a message that says it is a test, from here and now. Exit code 1: it was not taken, and why."""
    from ingest.admin.alerting import channels as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from tasks.channels.outcome import Sent  # noqa: PLC0415
    from tasks.observe import logs  # noqa: PLC0415

    # It says which address was refused.
    logs.configure()
    with session() as connection:
        outcome = work.test(connection, user, name, datetime.now(UTC))
    if not isinstance(outcome, Sent):
        raise OperatorError(f"The channel {user}/{name} did not take the message: {outcome.why}.")
    to_stderr(f"{user}/{name} has taken the message")


@channels_app.command()
def retry(user: str, name: Name) -> None:
    """Send the messages of a channel that have failed again, unless a later change of the alert was sent."""
    from ingest.admin.alerting import channels as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        done = work.retry(connection, user, name)
    to_stderr(f"{counted(done.again, 'message')} will be sent again")
    if done.skipped:
        to_stderr(
            f"{counted(done.skipped, 'message')} skipped: the channel has heard a later change of the alert,"
            " and must not hear this one last"
        )
