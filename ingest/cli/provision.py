"""The commands `sluice provision …`. Parses and prints; the work is in `ingest.admin.accounts.provision`."""

import contextlib
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.printing import AsJson, counted, progress_bar, to_stderr, to_stdout

if TYPE_CHECKING:
    from ingest.admin.accounts.accounts import Account

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
    from ingest.admin.accounts import accounts as work  # noqa: PLC0415

    _provision(work.device(user, device), as_json=as_json, password_stdin=password_stdin)


@provision_app.command()
def user(user: str, *, as_json: AsJson = False, password_stdin: PasswordStdin = False) -> None:
    """A user's own programs: receive the user's alerts, send rules and commands about alerts."""
    from ingest.admin.accounts import accounts as work  # noqa: PLC0415

    _provision(work.user(user), as_json=as_json, password_stdin=password_stdin)


@provision_app.command()
def service(name: str, *, as_json: AsJson = False, password_stdin: PasswordStdin = False) -> None:
    """A process of Sluice: receives everybody's messages, publishes everybody's alerts."""
    from ingest.admin.accounts import accounts as work  # noqa: PLC0415

    _provision(work.service(name), as_json=as_json, password_stdin=password_stdin)


@provision_app.command("csv")
def from_csv(
    file: Annotated[
        typer.FileText,
        typer.Argument(
            encoding="utf-8", help="A first line `user,device`, then an account on each line; - is stdin."
        ),
    ],
    *,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Accounts that are there get new passwords, too.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the passwords into this new file, which only you can read; not to stdout."),
    ] = None,
) -> None:
    """Devices, and users where the device is empty, by the thousand: all of the file, or none.

    Prints CSV with `user,device,username,password`. Accounts that are there already are left alone.
    """
    from ingest.admin.accounts import accounts_csv as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    wanted = work.read(file)
    with contextlib.ExitStack() as stack:
        target = sys.stdout if out is None else stack.enter_context(_new_file(out))
        with session() as connection, connection.transaction(), progress_bar(as_json=False) as progress:
            made, left = work.provision(connection, wanted, progress, rotate=rotate)
            work.write(target, made)
            # Accounts that cannot be written down were not made: nobody could know the passwords.
            target.flush()
    to_stderr(f"{counted(len(made), 'account')} made; each password is shown this once")
    if left:
        to_stderr(f"{counted(len(left), 'account')} left as they were; --rotate gives them new passwords")


def _new_file(path: Path) -> TextIO:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path} cannot be made: {error.strerror}. --out takes a new file.") from None


@provision_app.command()
def rights() -> None:
    """Give all accounts their missing rights after a change of DOMAINS. Passwords stay."""
    from ingest.admin.accounts import provision as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        given = work.grant(connection)
    to_stderr(f"{counted(given, 'right')} given")


@provision_app.command()
def remove(username: str) -> None:
    """Remove an account; the broker ends its connection."""
    from ingest.admin.accounts import provision as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        work.remove(connection, username)
    to_stderr(f"removed {username}")


@provision_app.command("list")
def list_accounts(*, as_json: AsJson = False) -> None:
    """List the accounts, without secrets."""
    from ingest.admin.accounts import provision as work  # noqa: PLC0415
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
    from ingest.admin.accounts import provision as work  # noqa: PLC0415
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
