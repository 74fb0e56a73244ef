"""The commands `sluice provision …`. Parses and prints; the work is in `ingest.admin.accounts`."""

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli.printing import AsJson, counted, to_stderr, to_stdout

if TYPE_CHECKING:
    from ingest.admin.accounts import Account

provision_app = typer.Typer(
    help="Credentials of the MQTT broker. Provisioning an account again gives it a new password and ends the"
    " old one. A change reaches the broker in well under a second; a client that is faster must try again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PasswordStdin = Annotated[
    bool,
    typer.Option(
        "--password-stdin", help="Take the password from stdin (one line) instead of generating one."
    ),
]


@provision_app.command()
def device(user: str, device: str, *, as_json: AsJson = False, password_stdin: PasswordStdin = False) -> None:
    """A device: may publish its own messages, in every domain, and hear why they are refused."""
    from ingest.admin import accounts as work  # noqa: PLC0415

    _provision(work.device(user, device), as_json=as_json, password_stdin=password_stdin)


@provision_app.command()
def user(user: str, *, as_json: AsJson = False, password_stdin: PasswordStdin = False) -> None:
    """A user's own programs: receive the user's alerts, send rules and commands about alerts."""
    from ingest.admin import accounts as work  # noqa: PLC0415

    _provision(work.user(user), as_json=as_json, password_stdin=password_stdin)


@provision_app.command()
def service(name: str, *, as_json: AsJson = False, password_stdin: PasswordStdin = False) -> None:
    """A process of Sluice: receives everybody's messages, publishes everybody's alerts."""
    from ingest.admin import accounts as work  # noqa: PLC0415

    _provision(work.service(name), as_json=as_json, password_stdin=password_stdin)


@provision_app.command()
def rights() -> None:
    """Give all accounts their missing rights after a change of DOMAINS. Passwords stay."""
    from ingest.admin import accounts as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        given = work.grant(connection)
    to_stderr(f"{counted(given, 'right')} given")


@provision_app.command()
def remove(username: str) -> None:
    """Remove an account; the broker ends its connection."""
    from ingest.admin import accounts as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        work.remove(connection, username)
    to_stderr(f"removed {username}")


@provision_app.command("list")
def list_accounts(*, as_json: AsJson = False) -> None:
    """List the accounts, without secrets."""
    from ingest.admin import accounts as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415
    from tasks.text.times import in_utc  # noqa: PLC0415

    with session() as connection:
        accounts = work.accounts(connection)
    if as_json:
        to_stdout(json.dumps([account._asdict() for account in accounts], default=datetime.isoformat))
        return
    width = max((len(account.username) for account in accounts), default=0)
    for account in accounts:
        rotated = in_utc(account.rotated_at)
        state = "" if account.enabled else "  disabled"
        to_stdout(f"{account.username:<{width}}  {account.kind:<7}  password of {rotated}{state}")
    to_stderr(counted(len(accounts), "account"))


def _provision(account: "Account", *, as_json: bool, password_stdin: bool) -> None:
    from ingest.admin import accounts as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    with session() as connection:
        credential = work.provision(connection, account, password)
    if as_json:
        to_stdout(json.dumps(credential._asdict()))
        return
    to_stdout(f"username: {credential.username}")
    if password is not None:
        return
    to_stdout(f"password: {credential.password}")
    to_stderr("The password is shown this once; provisioning again makes a new one and ends this one.")
