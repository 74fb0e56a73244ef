"""`make ha`: failovers of Redis under load, in turn of each kind, and a table of what they cost."""

import json
import os
import random
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import pytest
import typer

from tests import page_table

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "failures.md"
ALL = "all of them"
HEAD = (
    "| the master's machine | times | another is master after s | without a row for s | recovery s"
    " | messages | alert changes | lost | doubled | promises |\n|---|---|---|---|---|---|---|---|---|---|"
)


def main(
    failovers: Annotated[int, typer.Option(help="How many, in turn of each kind.", min=1, max=500)] = 50,
    seed: Annotated[int | None, typer.Option(help="Of the load; printed.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the table into docs/failures.md.")] = False,
) -> None:
    """Three machines of Redis and Sentinel, two bridges, two workers, on addresses of the loopback network.

    A failover takes 20 to 30 s with all that is compared after it; one that takes ten minutes ends the run.
    """
    number = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    os.environ |= {"CHAOS": "all", "CHAOS_SEED": str(number), "HA_FAILOVERS": str(failovers)}
    figures = PROJECT / ".local" / "chaos" / f"seed-{number}.json"
    figures.unlink(missing_ok=True)
    code = pytest.main([str(PROJECT / "tests/chaos/test_failovers.py"), "--tb=short", "-q"])
    if figures.exists():
        text = table(json.loads(figures.read_text()))
        sys.stdout.write(f"\n{text}\n")
        if write:
            page_table.write(PAGE, "ha", text)
    raise SystemExit(code)


def table(figures: dict[str, Any]) -> str:
    """The table of a run's figures: a line for each kind, and one for the whole load."""
    verdicts = figures["faults"]
    kinds = dict.fromkeys(_kind(one["fault"]) for one in verdicts if one["fault"] != ALL)
    lines = [_line(kind, [one for one in verdicts if _kind(one["fault"]) == kind]) for kind in kinds]
    whole = next((one for one in verdicts if one["fault"] == ALL), None)
    said = (
        f"The last run, on {datetime.now(UTC):%Y-%m-%d}, {figures['cores']} cores, seed {figures['seed']}:"
        f" median and, in parentheses, maximum.\n\n{HEAD}\n" + "\n".join(lines)
    )
    if whole is not None:
        said += (
            f"\n\nThe whole load once more: {whole['messages']:,} messages, {whole['rows']:,} rows,"
            f" {whole['dead_letters']:,} dead letters, {whole['alert_changes']:,} changes of alerts,"
            f" {whole['lost']} lost, {whole['doubled']} doubled,"
            f" {whole['notices_repeated']:,} notices published twice."
        )
    return said


def _kind(name: str) -> str:
    # pytest numbers those that come several times.
    return name.rstrip("0123456789").rstrip("_")


def _line(kind: str, verdicts: Sequence[dict[str, Any]]) -> str:
    kept = sum(not one["problems"] and one["judged"] for one in verdicts)
    cells = [
        kind,
        len(verdicts),
        _spread(one["seconds"] for one in verdicts),
        _spread(one["pause_seconds"] for one in verdicts),
        _spread(one["recovery_seconds"] for one in verdicts),
        *(f"{sum(one[name] for one in verdicts):,}" for name in ("messages", "alert_changes")),
        *(sum(one[name] for one in verdicts) for name in ("lost", "doubled")),
        "kept" if kept == len(verdicts) else f"**kept in {kept}**",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _spread(values: Iterable[float]) -> str:
    found = list(values)
    return f"{median(found):.1f} ({max(found):.1f})"


if __name__ == "__main__":
    typer.run(main)
