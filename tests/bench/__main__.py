"""`make bench`: how close the pipeline comes to what the database itself can take, and what it sustains."""

import json
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tests.bench import rules
from tests.bench.drain import Drain, drain
from tests.bench.reference import rows_per_second

PROJECT = Path(__file__).resolve().parents[2]
PROCESSES = ("bridge", "worker", "control", "gateway")

console = Console()


def main(
    records: Annotated[int, typer.Option(help="Records of the backlog.")] = 500_000,
    devices: Annotated[int, typer.Option(help="Devices that they come from.")] = 90,
    pairs: Annotated[int, typer.Option(help="Drains, each between two reference runs.")] = 3,
    rate: Annotated[int, typer.Option(help="Messages per second by MQTT; 0 leaves this part out.")] = 3000,
    duration: Annotated[int, typer.Option(help="Seconds of it.")] = 60,
    folder: Annotated[Path, typer.Option("--dir", help="Where the servers' data and the results go.")] = (
        PROJECT / ".local" / "bench"
    ),
) -> None:
    """Measures on servers of its own, beside nothing else, and writes the result to latest.json."""
    stack = Stack(folder.resolve(), free_ports=True)
    result: dict[str, Any] = {"when": datetime.now(UTC).isoformat(), "machine": machine()}
    try:
        stack.up(PROCESSES)
        result |= drains(stack, records, devices, pairs)
        if rate:
            result["sustained"] = sustained(stack, rate, duration)
    finally:
        stack.down()
    (folder / "latest.json").write_text(json.dumps(result, indent=2) + "\n")
    show(result, folder)


def drains(stack: Stack, records: int, devices: int, pairs: int) -> dict[str, Any]:
    """Reference, drain, and drain with rules in turn.

    Each drain is compared with the reference runs before and after it, and the one with rules with the one
    without before it.
    """
    url = stack.env["DATABASE_DIRECT_URL"]
    references = [rows_per_second(url, records, devices, run=0)]
    runs: list[Drain] = []
    ruled: list[Drain] = []
    ratios: list[float] = []
    told: list[int] = []
    for pair in range(pairs):
        runs.append(drain(stack, records, devices, run=2 * pair + 1))
        rules.set_rules(stack, devices)
        ruled.append(drain(stack, records, devices, run=2 * pair + 2))
        told.append(rules.changes(stack))
        rules.clear(stack)
        references.append(rows_per_second(url, records, devices, run=0))
        ratios.append(runs[-1].per_second / statistics.mean(references[-2:]))
        console.print(
            f"drain {runs[-1].per_second:,.0f}/s, with rules {ruled[-1].per_second:,.0f}/s and {told[-1]:,} "
            f"changes, COPY {references[-2]:,.0f} and {references[-1]:,.0f}/s, ratio {ratios[-1]:.2f}"
        )
    shares = [one.per_second / other.per_second for one, other in zip(ruled, runs, strict=True)]
    return {
        "drain_per_second": round(statistics.median(run.per_second for run in runs)),
        "copy_per_second": round(statistics.median(references)),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "records": records,
        "devices": devices,
        "drains": [asdict(run) for run in runs],
        "with_rules": {
            "drain_per_second": round(statistics.median(run.per_second for run in ruled)),
            "of_without": round(statistics.median(shares), 3),
            "of_without_spread": [round(min(shares), 3), round(max(shares), 3)],
            "changes": told,
            "drains": [asdict(run) for run in ruled],
        },
        "references": references,
    }


def sustained(stack: Stack, rate: int, duration: int) -> dict[str, Any]:
    """The load tester at a fixed rate, and how long after its end the lag is 0."""
    report = stack.layout.base / "loadtest.json"
    command = [sys.executable, "-m", "ingest.loadtest", "--rate", str(rate), "--duration", str(duration)]
    command += ["--users", "6", "--devices-per-user", "10", "--json", str(report)]
    started = subprocess.Popen(command, env=process_environment(stack.env), cwd=PROJECT)
    status = started.wait(timeout=duration + 300)
    loaded = json.loads(report.read_text())
    return {"exit_code": status, "rate": rate, "seconds": duration, **loaded}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(models) or None,
        "memory_gib": round(int(memory) / 1024 / 1024, 1),
        "python": platform.python_version(),
    }


def show(result: dict[str, Any], folder: Path) -> None:
    """Prints the result as a table."""
    table = Table(title="Sluice benchmark")
    for column in ("what", "figure"):
        table.add_column(column)
    low, high = result["ratio_spread"]
    table.add_row("drain, median", f"{result['drain_per_second']:,} records/s")
    table.add_row("raw COPY, one connection, same rows, median", f"{result['copy_per_second']:,} rows/s")
    table.add_row("ratio, median (least to most)", f"{result['ratio']:.2f} ({low:.2f} to {high:.2f})")
    with_rules = result["with_rules"]
    low, high = with_rules["of_without_spread"]
    table.add_row(
        "drain with 5 rules a user, 1% violating, median", f"{with_rules['drain_per_second']:,} records/s"
    )
    table.add_row(
        "of the rate without, median (least to most)",
        f"{with_rules['of_without']:.2f} ({low:.2f} to {high:.2f})",
    )
    for name, (first, most) in result["drains"][-1]["memory_mib"].items():
        table.add_row(
            f"memory of {name} while it drains", f"{first:.0f} MiB at first, {most:.0f} MiB at most"
        )
    if load := result.get("sustained"):
        latency = load["latency_ms"]
        percentiles = " / ".join(f"{latency[name]:.0f}" for name in ("p50", "p95", "p99"))
        table.add_row(f"MQTT for {load['seconds']} s", f"{load['achieved_rate']:,.0f} messages/s")
        table.add_row("lost, doubled", f"{load['lost']}, {load['doubled']}")
        table.add_row("publish to committed row, p50 / p95 / p99", f"{percentiles} ms")
        table.add_row("all accounted for after the last message", f"{load['settle_seconds']:.1f} s")
    console.print(table)
    console.print(f"All figures: {folder / 'latest.json'}")


if __name__ == "__main__":
    typer.run(main)
