"""`make bench`: how close the pipeline comes to what the database can take, and what a message costs."""

import json
import os
import platform
import signal
import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import psycopg
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from compose.local.stack import Stack
from tests.bench import compare as comparison
from tests.bench import console as answers
from tests.bench import fleet, growth, neighbours, plots, publish, rules, scale, show, traced
from tests.bench.backlog import Backlog, Shape, copy_lines, fill
from tests.bench.drain import TOPIC, Drain, drain
from tests.bench.growth import spread
from tests.bench.reference import rows_per_second
from tests.bench.size import Size

PROJECT = Path(__file__).resolve().parents[2]
PROCESSES = ("bridge", "worker", "beat", "control", "gateway")
RATES = (500, 2000, 5000)
WARM_RATE, WARM_SECONDS = 2000, 20
GROWTH_RECORDS = 100_000
# Of each device at least, where fleets are compared: the first one of a device costs more, once.
READINGS = 10
# The users who share the devices of the second backlog where the cost of rules is measured.
RULED_USERS = 100

console = Console()


class Part(StrEnum):
    """The benchmarks that can run alone."""

    DRAIN = "drain"
    LATENCY = "latency"
    GATEWAY = "gateway"
    GROWTH = "growth"
    RULES = "rules"
    TRACING = "tracing"
    DEVICES = "devices"
    NEIGHBOURS = "neighbours"
    CONSOLE = "console"
    SCALE = "scale"


def main(
    records: Annotated[int, typer.Option(min=1000, help="Records of a backlog.")] = 300_000,
    devices: Annotated[tuple[int, int], typer.Option(help="Devices of the two backlogs.")] = (90, 10_000),
    pairs: Annotated[int, typer.Option(min=1, help="Drains, each between two reference runs.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Of publishing, at each rate.")] = 20,
    only: Annotated[
        list[Part] | None,
        typer.Option(help="This part alone; again for more. By default drain, latency and gateway."),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION", help="Drains by this revision and that one in turn, and nothing else."
        ),
    ] = None,
    with_rules: Annotated[bool, typer.Option("--rules/--no-rules", help="Five alert rules a user.")] = True,
    folder: Annotated[Path, typer.Option("--dir", help="Where the servers' data and the results go.")] = (
        PROJECT / ".local" / "bench"
    ),
) -> None:
    """Measures on servers of its own, and writes latest.json and plots (SVG) into the folder.

    The drain has five alert rules for every user, of which one reading in a hundred violates one, and one
    bad record in two hundred. Nothing else should run meanwhile.
    """
    # A stop ends the servers, as a Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    result: dict[str, Any] = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    size = Size(records, devices, pairs, seconds, with_rules)
    if compare and only:
        raise typer.BadParameter("it measures drains alone; leave out --only", param_hint="--compare")
    if compare:
        try:
            result["compare"] = comparison.compare(PROJECT, compare, size, console)
        except comparison.RevisionError as error:
            raise typer.BadParameter(str(error), param_hint="--compare") from error
    else:
        result |= measure(only or [Part.DRAIN, Part.LATENCY, Part.GATEWAY], size, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(json.dumps(result, indent=2) + "\n")
    plots.draw(result, folder)
    console.print(show.table(result))
    console.print(f"All figures: {folder / 'latest.json'}; plots beside it", soft_wrap=True)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def measure(parts: list[Part], size: Size, folder: Path) -> dict[str, Any]:
    """Measures the parts on servers whose data is in the folder; returns the figures by part."""
    result: dict[str, Any] = {}
    stack = Stack(folder.resolve(), free_ports=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), *Progress.get_default_columns()[1:3])
    try:
        stack.up(PROCESSES)
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
            if Part.DRAIN in parts:
                result["drain"] = [
                    drains(
                        stack, Shape(size.records, count, run), size.pairs, progress, with_rules=size.rules
                    )
                    for run, count in enumerate(size.devices)
                ]
                figures = ("drain_per_second", "copy_per_second", "ratio")
                result |= {name: result["drain"][0][name]["median"] for name in figures}
            if Part.LATENCY in parts:
                # A Kafka that has just started spends most on compiling itself.
                publish.latency(stack, WARM_RATE, WARM_SECONDS, progress)
                result["latency"] = [publish.latency(stack, rate, size.seconds, progress) for rate in RATES]
            if Part.GATEWAY in parts:
                result["gateway"] = publish.gateway(stack, progress)
            if Part.GROWTH in parts:
                shape = Shape(min(size.records, GROWTH_RECORDS), size.devices[0], len(size.devices))
                backlog = _begin(stack, shape, progress, size.rules)
                result["growth"] = growth.growth(stack, backlog, size.pairs, progress)
            if Part.RULES in parts:
                devices = size.devices[1]
                shape = Shape(size.records, devices, len(size.devices) + 2, devices // RULED_USERS)
                backlog = _begin(stack, shape, progress, with_rules=False)
                found = growth.of_rules(stack, backlog, size.pairs, progress)
                result["growth"] = result.get("growth", {}) | found
            if Part.DEVICES in parts:
                result["growth"] = result.get("growth", {}) | {"devices": []}
                for run, count in enumerate(growth.DEVICES, len(size.devices) + 4):
                    shape = Shape(max(min(size.records, GROWTH_RECORDS), READINGS * count), count, run)
                    backlog = _begin(stack, shape, progress, size.rules)
                    step = growth.of_devices(stack, backlog, size.pairs, progress)
                    result["growth"]["devices"].append(step)
            if Part.TRACING in parts:
                shape = Shape(size.records, size.devices[0], len(size.devices) + 1)
                backlog = _begin(stack, shape, progress, size.rules, sampled=traced.RATIO)
                result["tracing"] = traced.traced(stack, backlog, size.pairs, progress)
            if Part.NEIGHBOURS in parts:
                result["neighbours"] = neighbours.neighbours(stack, progress)
            if Part.CONSOLE in parts:
                shape = Shape(min(size.records, GROWTH_RECORDS), size.devices[1], len(size.devices) + 3)
                backlog = _begin(stack, shape, progress, size.rules)
                result["console"] = answers.console(stack, backlog, progress)
            if Part.SCALE in parts:
                found = {"fleet": fleet.fleet(stack, progress)}
                shape = Shape(min(size.records, scale.RECORDS), scale.DEVICES, len(size.devices) + 8)
                backlog = _begin(stack, shape, progress, size.rules)
                rounds = min(size.pairs, scale.ROUNDS)
                result["scale"] = found | scale.scale(stack, backlog, rounds, progress)
    finally:
        stack.down()
    return result


def drains(stack: Stack, shape: Shape, pairs: int, progress: Progress, *, with_rules: bool) -> dict[str, Any]:
    """Reference and drain in turn; each drain is compared with the reference runs before and after it."""
    url = stack.env["DATABASE_DIRECT_URL"]
    backlog = _begin(stack, shape, progress, with_rules)
    lines = copy_lines(shape)
    references = [rows_per_second(url, lines)]
    runs: list[Drain] = []
    ratios: list[float] = []
    for _ in range(pairs):
        runs.append(drain(stack, backlog, progress))
        references.append(rows_per_second(url, lines))
        ratios.append(runs[-1].per_second / statistics.mean(references[-2:]))
        console.print(
            f"{shape.devices:,} devices: drain {runs[-1].per_second:,.0f}/s, "
            f"COPY {references[-2]:,.0f} and {references[-1]:,.0f}/s, ratio {ratios[-1]:.2f}, "
            f"CPU {sum(runs[-1].cpu_us.values()):.0f} µs a message, {runs[-1].alert_changes:,} alert changes"
        )
    return {
        "records": shape.records,
        "devices": shape.devices,
        "rules": with_rules,
        "drain_per_second": spread([run.per_second for run in runs]),
        "copy_per_second": spread(references),
        "ratio": spread(ratios),
        "cpu_us": {name: statistics.median(run.cpu_us[name] for run in runs) for name in runs[0].cpu_us},
        "redis": {name: statistics.median(run.redis[name] for run in runs) for name in runs[0].redis},
        "runs": [asdict(run) for run in runs],
        "references": references,
    }


def _begin(stack: Stack, shape: Shape, progress: Progress, with_rules: bool, sampled: float = 0) -> Backlog:
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        if with_rules:
            rules.set_rules(connection, shape.users)
        else:
            rules.clear(connection)
    stack.stop("bridge")
    return fill(stack.env["KAFKA_BOOTSTRAP_SERVERS"], TOPIC, shape, progress, sampled=sampled)


def machine() -> dict[str, Any]:
    """The machine and versions that the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 1024 / 1024, 1),
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "load_average": [round(one, 1) for one in os.getloadavg()],
    }


if __name__ == "__main__":
    typer.run(main)
