"""The commands `sluice rules …`. Parses and prints; the work is in `ingest.admin.rulesets.rules`."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.admin.errors import OperatorError
from ingest.cli.printing import AsJson, counted, to_stderr, to_stdout

if TYPE_CHECKING:
    from ingest.admin.rulesets.rules_files import Change

User = Annotated[
    str, typer.Argument(help="The owner of the rules; + for the operator's, which hold for every user.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the difference, and change nothing.")]

rules_app = typer.Typer(
    help="Alert rules in a file, as they are published on users/USER/config; a file named - is stdin or"
    " stdout.",
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
    from ingest.admin.rulesets import rules as work  # noqa: PLC0415

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
    from ingest.admin.rulesets import rules as work  # noqa: PLC0415

    now = datetime.now(UTC)
    chosen = work.domain_named(domain)
    rules, begin = work.about(chosen, work.load(file)), work.parse_since(since, now)
    history = work.try_out(chosen, rules, user, device, begin, now)
    if as_json:
        to_stdout(json.dumps(work.as_json(rules, history, now), ensure_ascii=False))
        return
    for line in work.as_text(rules, history, begin, now):
        to_stdout(line)


@rules_app.command()
def export(user: User, file: str) -> None:
    """Write a user's rules into a file. What `import` reads again is the same."""
    from ingest.admin.rulesets import rules_files as work  # noqa: PLC0415

    rules = work.export(user)
    if file == "-":
        to_stdout(work.as_document(rules).rstrip("\n"))
    else:
        work.write(file, rules)
    to_stderr(counted(len(rules), "rule"))


@rules_app.command("diff")
def diff_file(user: User, file: str, *, as_json: AsJson = False) -> None:
    """Show what an import of the file would change. Exit code 1 if it would change anything."""
    change = _planned(user, file)
    _show(change, as_json=as_json)
    if change.found:
        raise SystemExit(1)


@rules_app.command("import")
def import_file(
    user: User, file: str, *, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Replace a user's rules by those of a file, after showing the difference and asking.

    Every error in the file is named, as in the answers over MQTT, and then nothing is changed.
    """
    _apply(_planned(user, file), yes=yes, dry_run=dry_run, as_json=as_json, from_stdin=file == "-")


@rules_app.command()
def history(user: User, *, as_json: AsJson = False) -> None:
    """Show the latest 50 versions of a user's rules: when they came, who wrote them and how."""
    from ingest.admin.rulesets import rules_files as work  # noqa: PLC0415
    from tasks.text.wording import safe  # noqa: PLC0415

    versions = work.history(user)
    if as_json:
        to_stdout(json.dumps(work.as_json(versions), ensure_ascii=False))
        return
    for line in work.as_text(versions):
        to_stdout(safe(line))
    to_stderr(counted(len(versions), "version"))


@rules_app.command()
def restore(
    user: User, version: int, *, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Go back to an earlier version, after showing the difference and asking. It becomes a new version."""
    from ingest.admin.rulesets import rules_files as work  # noqa: PLC0415

    _apply(work.plan_of_version(user, version), yes=yes, dry_run=dry_run, as_json=as_json)


def _planned(user: str, file: str) -> "Change":
    from ingest.admin.rulesets import rules, rules_files  # noqa: PLC0415

    return rules_files.plan(user, rules_files.placed(rules.load(file), file))


def _apply(change: "Change", *, yes: bool, dry_run: bool, as_json: bool, from_stdin: bool = False) -> None:
    from ingest.admin.rulesets import rules_files as work  # noqa: PLC0415

    writes = bool(change.found) and not dry_run
    if writes and not yes and (from_stdin or as_json):
        raise OperatorError("Nothing was changed: give --yes, as there is nobody to ask.")
    if not as_json:
        _show(change, as_json=False)
    if writes:
        if not yes and not _agreed():
            raise OperatorError("Nothing was changed; with --yes nobody is asked.")
        work.apply(change)
        to_stderr("the rules are replaced; they are in force within a second")
    if as_json:
        _show(change, as_json=True, applied=writes)


def _agreed() -> bool:
    try:
        return typer.confirm("Replace the rules?", err=True)
    except typer.Abort:
        return False


def _show(change: "Change", *, as_json: bool, applied: bool = False) -> None:
    from ingest.admin.rulesets import rules_diff  # noqa: PLC0415
    from tasks.rules.everyone import EVERYONE  # noqa: PLC0415
    from tasks.text.wording import safe  # noqa: PLC0415

    if as_json:
        found = [one._asdict() for one in change.found]
        to_stdout(json.dumps({"differences": found, "applied": applied}, ensure_ascii=False))
    else:
        for line in rules_diff.as_lines(change.found):
            to_stdout(safe(line))
    who = "for every user" if change.user_id == EVERYONE else change.user_id
    to_stderr(f"{who}: {rules_diff.summary(change.found)}")
    for fault in change.doubtful:
        to_stderr(safe(f"{fault['path']}: {fault['message']}"))
    if not change.has_account:
        to_stderr(f"there is no account of {change.user_id}")
