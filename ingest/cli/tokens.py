"""The commands `sluice tokens …`. Parses and prints; the work is in `ingest.admin.accounts.tokens`."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.printing import AsJson, counted, print_rows, to_stderr, to_stdout

tokens_app = typer.Typer(
    help="Tenants' tokens of the HTTP API: with one a user's programs see and change what is the user's. The"
    " operator's own token is WEB_TOKEN in the settings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@tokens_app.command()
def create(
    user: str,
    *,
    valid: Annotated[
        str | None, typer.Option("--valid", help="For how long it is valid: 12h, 90d; by default forever.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token of this user, and show it this once."""
    from ingest.admin.accounts import tokens as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    expires_at = None if valid is None else _end(valid)
    with session() as connection:
        made = work.create(connection, user, expires_at)
    if as_json:
        to_stdout(json.dumps(made._asdict()))
        return
    to_stdout(made.token)
    to_stderr(f"token {made.token_id}; it is shown this once")


@tokens_app.command("list")
def list_tokens(user: Annotated[str | None, typer.Argument()] = None, *, as_json: AsJson = False) -> None:
    """List the tokens of all users, or of one, without what they are."""
    from ingest.admin.accounts import tokens as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    with session() as connection:
        rows = work.listed(connection, user)
    print_rows(rows, work.as_text, "token", as_json=as_json)


@tokens_app.command()
def revoke(
    user: str,
    token: Annotated[str | None, typer.Argument(metavar="TOKEN_ID")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All tokens of the user.")] = False,
) -> None:
    """End a token at once."""
    from ingest.admin.accounts import tokens as work  # noqa: PLC0415
    from ingest.admin.postgres import session  # noqa: PLC0415

    if (token is None) != every:
        raise typer.BadParameter("give either a TOKEN_ID or --all")
    with session() as connection:
        count = work.revoke(connection, user, token)
    to_stderr(f"{counted(count, 'token')} revoked")


def _end(text: str) -> datetime:
    from tasks.text.times import parse_span  # noqa: PLC0415

    try:
        return datetime.now(UTC) + parse_span(text)
    except (ValueError, OverflowError) as error:
        raise OperatorError(f"--valid {error}.") from None
