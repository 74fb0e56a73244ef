"""The benchmark's result as pictures (SVG)."""

from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure

LABELS = {
    "lanes": "lanes",
    "batch": "messages in a batch at most",
    "rows": "rows in the table before",
    "devices": "devices",
    "rules": "rules of a user",
}
# The same figures give the same file.
rcParams["svg.hashsalt"] = "sluice"


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """Writes the pictures for what was measured into the folder, and returns their paths."""
    drawn: list[Path] = []
    if drains := result.get("drain"):
        drawn.append(_save(_cpu(drains), folder / "cpu.svg"))
        drawn.append(_save(_memory(drains[-1]), folder / "memory.svg"))
    if loads := result.get("latency"):
        drawn.append(_save(_latency(loads), folder / "latency.svg"))
    if grown := result.get("growth"):
        drawn.append(_save(_growth(grown), folder / "growth.svg"))
    return drawn


def _cpu(drains: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(7, 1 + 0.8 * len(drains)), layout="constrained")
    axes = figure.add_subplot()
    names = [f"{one['devices']:,} devices" for one in drains]
    starts = [0.0] * len(drains)
    for process in drains[0]["cpu_us"]:
        widths = [one["cpu_us"][process] for one in drains]
        axes.barh(names, widths, left=starts, label=process)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.set_xlabel("CPU time of one message, µs")
    figure.legend(loc="outside upper center", ncols=4, fontsize="small")
    return figure


def _memory(drains: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    for name, seen in drains["runs"][-1]["memory_mib"].items():
        axes.plot([at for at, _ in seen], [size for _, size in seen], label=name)
    axes.set(xlabel="seconds of the drain", ylabel="resident MiB", ylim=(0, None))
    axes.legend()
    return figure


def _latency(loads: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(("p50", "p95", "p99")):
        places = [place + (number - 1) * 0.25 for place in range(len(loads))]
        axes.bar(places, [load["latency_ms"][name] for load in loads], 0.25, label=name)
    axes.set_xticks(range(len(loads)), [f"{load['rate']:,}/s" for load in loads])
    axes.set_ylabel("publish to committed row, ms")
    axes.legend()
    return figure


def _growth(grown: dict[str, list[dict[str, Any]]]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, (name, steps) in zip(
        figure.subplots(1, len(grown), squeeze=False)[0], grown.items(), strict=True
    ):
        at, cost = [step["at"] for step in steps], [step["cpu_us"] for step in steps]
        middle = [one["median"] for one in cost]
        spans = [
            [one["median"] - one["least"] for one in cost],
            [one["most"] - one["median"] for one in cost],
        ]
        axes.errorbar(at, middle, spans, fmt="o-", capsize=3)
        axes.set(xscale="log", ylim=(0, None), xlabel=LABELS[name], ylabel="CPU time of one message, µs")
    return figure


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    return path
