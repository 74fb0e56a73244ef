"""The commands `sluice rules …`. Parses and prints; the work is in `ingest.admin.rules`."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from ingest.cli.printing import AsJson, counted, to_stderr, to_stdout

rules_app = typer.Typer(
    help="Alert rules in a file, as they are published on users/USER/config; a file named - is stdin.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@rules_app.command()
def check(
    file: Annotated[str | None, typer.Argument()] = None,
    *,
    stored: Annotated[
        bool, typer.Option("--stored", help="Check the rules of all users in the table.")
    ] = False,
) -> None:
    """Check rules and explain them. Every error is named; exit code 1 if there is any."""
    from ingest.admin import rules as work  # noqa: PLC0415

    if (file is None) != stored:
        raise typer.BadParameter("give either a file or --stored")
    if file is None:
        to_stderr(work.check_stored())
        return
    rules = work.load(file)
    for line in work.explain(rules):
        to_stdout(line)
    to_stderr(counted(len(rules.rules), "valid rule"))


@rules_app.command("test")
def try_rules(
    file: str,
    *,
    user: Annotated[str, typer.Option(help="The user whose readings are tested.")],
    device: Annotated[str | None, typer.Option(help="One device; by default all of the user's.")] = None,
    domain: Annotated[
        str | None, typer.Option(help="Domain of the readings; by default the first of DOMAINS.")
    ] = None,
    since: Annotated[str, typer.Option(help="Readings since then: 45s, 90m, 12h, 7d; or a time.")] = "7d",
    as_json: AsJson = False,
) -> None:
    """Show when rules would have fired on the stored readings. Nobody is notified, nothing is changed."""
    from ingest.admin import rules as work  # noqa: PLC0415

    now = datetime.now(UTC)
    chosen = work.domain_named(domain)
    rules, begin = work.about(chosen, work.load(file)), work.parse_since(since, now)
    history = work.try_out(chosen, rules, user, device, begin, now)
    if as_json:
        to_stdout(json.dumps(work.as_json(rules, history, now), ensure_ascii=False))
        return
    for line in work.as_text(rules, history, now):
        to_stdout(line)
