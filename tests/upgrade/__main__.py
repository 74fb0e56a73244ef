"""`python -m tests.upgrade [REV]`: a rolling upgrade from another revision, under load, and what it cost."""

import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests import page_table
from tests.bench.compare import RevisionError, checkout
from tests.upgrade.rolling import Outcome, upgrade

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "operate.md"
HEAD = "| step | s | worst latency s | without a row for s |\n|---|---|---|---|"


def main(
    revision: Annotated[
        str, typer.Argument(help="Upgrade from it; by default the last before the newest migration.")
    ] = "",
    seed: Annotated[int | None, typer.Option(help="Of the load; printed.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the table into docs/operate.md.")] = False,
) -> None:
    """On servers of its own: five minutes, and more when the other revision is set up for the first time."""
    console = Console(stderr=True)
    number = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    try:
        chosen = revision or before_newest_migration()
        outcome = upgrade(PROJECT, checkout(PROJECT, chosen, console), number, console)
    except RevisionError as error:
        console.print(str(error))
        raise SystemExit(1) from None
    text = table(outcome, _short(chosen), number)
    sys.stdout.write(f"\n{text}\n")
    for problem in (*outcome.verdict.problems, *outcome.whole.problems):
        console.print(problem)
    if write:
        page_table.write(PAGE, "upgrade", text)
    raise SystemExit(0 if outcome.passed else 1)


def before_newest_migration() -> str:
    """The revision before the one that added the newest migration. Raises `RevisionError`."""
    added = _git("log", "-1", "--diff-filter=A", "--format=%H", "--", "sql")
    if not added:
        raise RevisionError("no revision of this repository adds a migration; name one to upgrade from")
    return f"{added}^"


def table(outcome: Outcome, revision: str, seed: int) -> str:
    """The table for the terminal and the docs."""
    lines = [
        f"| {step.name} | {step.seconds:.1f} | {step.worst_latency_seconds:.1f} | {step.pause_seconds:.1f} |"
        for step in outcome.steps
    ]
    whole = outcome.whole
    ended = ", ".join(f"{name} {count}" for name, count in sorted(outcome.ended.items())) or "none"
    load = f"on {os.cpu_count()} cores at a load average of {os.getloadavg()[1]:.0f}"
    return (
        f"The last run, on {datetime.now(UTC):%Y-%m-%d}, from {revision}, seed {seed}, {load}:\n\n{HEAD}\n"
        + "\n".join(lines)
        + f"\n\n{whole.messages:,} messages, {whole.rows:,} rows, {whole.dead_letters:,} dead letters,"
        f" {whole.alert_changes:,} changes of alerts,\n{whole.lost} lost, {whole.doubled} doubled,"
        f" {whole.notices_repeated:,} notices published twice;"
        f" {'alerts exact' if outcome.passed else '**not every promise was kept**'}. Processes\nthat"
        f" ended by themselves: {ended}."
    )


def _short(revision: str) -> str:
    return _git("log", "-1", "--format=%h", revision) or revision


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    typer.run(main)
