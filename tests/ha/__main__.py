"""`make ha`: servers' machines lost, troubled, two at once, under load, and tables of what that cost."""

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
LASTED = "lasted s"
# The test module of each run, what is struck, and what the time measured of the servers means.
RUNS = {
    "redis": ("test_redis_failovers", "the master's machine", "another is master after s"),
    "kafka": ("test_kafka_failovers", "the machine of a broker", "away for s"),
    "postgres": ("test_postgres_failovers", "a machine of PostgreSQL", "the other takes writes after s"),
    "redis-troubles": ("test_troubles", "the master's machine", LASTED),
    "kafka-troubles": ("test_troubles", "the machine that leads the most partitions", LASTED),
    "postgres-troubles": ("test_troubles", "the primary's machine", LASTED),
    "pairs": ("test_pairs", "at once", "others have taken over after s"),
}


def main(
    only: Annotated[str, typer.Option(help="These alone, such as redis,kafka-troubles,pairs.")] = "",
    failovers: Annotated[
        int, typer.Option(help="How many of each, in turn of each kind.", min=1, max=500)
    ] = 24,
    seed: Annotated[int | None, typer.Option(help="Of the load; printed.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into docs/failures.md.")] = False,
) -> None:
    """Three machines of Redis and Sentinel, three of Kafka, two of PostgreSQL; for the pairs all eight.

    A strike takes 20 to 90 s with all that is compared after it; one that takes ten minutes ends the run.
    Troubles need root or sudo: a full disk is a mounted image.
    """
    wanted = [name for name in RUNS if name in (only.split(",") if only else RUNS)]
    if unknown := set(filter(None, only.split(","))) - set(wanted):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: it is {', '.join(RUNS)}", param_hint="ONLY")
    number = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    os.environ |= {"CHAOS": "all", "CHAOS_SEED": str(number)}
    os.environ |= {f"HA_{name.upper().replace('-', '_')}": str(failovers) for name in wanted}
    figures = PROJECT / ".local" / "chaos" / f"seed-{number}.json"
    figures.unlink(missing_ok=True)
    modules = dict.fromkeys(RUNS[name][0] for name in wanted)
    tests = [str(PROJECT / "tests" / "chaos" / f"{module}.py") for module in modules]
    code = pytest.main([*tests, "--tb=short", "-q"])
    if figures.exists():
        document = json.loads(figures.read_text())
        for name in wanted:
            text = table(name, document)
            sys.stdout.write(f"\n{text}\n")
            if write:
                page_table.write(PAGE, f"ha-{name}", text)
    raise SystemExit(code)


def table(name: str, figures: dict[str, Any]) -> str:
    """The table of a run in the figures: a line for each kind, and one for the whole load."""
    module, struck, lasted = RUNS[name]
    # Several servers may be in one module: their names come first.
    server = f"{name.removesuffix('-troubles')}-" if module == "test_troubles" else ""
    verdicts = [
        {**one, "fault": one["fault"].removeprefix(server)}
        for one in figures["faults"]
        if one["test"] == module and one["fault"].startswith(server)
    ]
    head = (
        f"| {struck} | times | {lasted} | without a row for s | recovery s"
        " | messages | alert changes | lost | doubled | promises |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    kinds = dict.fromkeys(_kind(one["fault"]) for one in verdicts if one["fault"] != ALL)
    lines = [_line(kind, [one for one in verdicts if _kind(one["fault"]) == kind]) for kind in kinds]
    whole = next((one for one in verdicts if one["fault"] == ALL), None)
    said = (
        f"The last run, on {datetime.now(UTC):%Y-%m-%d}, {figures['cores']} cores at a load of"
        f" {figures['load_average'][1]:.0f}, seed {figures['seed']}: median and, in parentheses, maximum.\n\n"
        + "\n".join([head, *lines])
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
