"""The benchmark's result as a table."""

from typing import Any

from rich.table import Table


def table(result: dict[str, Any]) -> Table:
    """A line for each figure, with the spread where something was measured several times."""
    lines = Table(title="Sluice benchmark")
    lines.add_column("what")
    lines.add_column("median (least to most)")
    for drains in result.get("drain", ()):
        _drains(lines, drains)
    for compared in result.get("compare", ()):
        devices = f"{compared['devices']:,} devices"
        lines.add_row(f"CPU time a message, this revision by the other, {devices}", _each(compared, "cpu"))
        lines.add_row(f"drain rate, this revision by the other, {devices}", _each(compared, "rate"))
    for load in result.get("latency", ()):
        percentiles = " / ".join(f"{load['latency_ms'][name]:.0f}" for name in ("p50", "p95", "p99"))
        lines.add_row(
            f"publish to row at {load['rate']:,}/s ({load['achieved_rate']:,.0f} made), p50 / p95 / p99",
            f"{percentiles} ms; {load['lost']} lost, {load['doubled']} doubled",
        )
    if gateway := result.get("gateway"):
        lines.add_row("one gateway alone, QoS 1", f"{gateway['per_second']:,.0f} messages/s")
        lines.add_row("its CPU time a message", f"{gateway['cpu_us']['gateway']:.1f} µs")
    for name, steps in result.get("growth", {}).items():
        for step in steps:
            lines.add_row(
                f"drain with {name} {step['at']:,}",
                f"{_range(step['per_second'], ',.0f')}/s, {_range(step['cpu_us'], '.0f')} µs a message",
            )
    for pair in result.get("neighbours", ()):
        alone, beside = pair["alone_ms"], pair["beside_ms"]
        lines.add_row(
            f"publish to row beside {pair['noise']}, p50 / p95 / most",
            f"{beside['median']:,} / {beside['p95']:,} / {beside['most']:,} ms;"
            f" alone {alone['median']:,} / {alone['p95']:,} / {alone['most']:,} ms",
        )
    if answers := result.get("console"):
        _answers(lines, answers)
    if scale := result.get("scale"):
        _scale(lines, scale)
    if tracing := result.get("tracing"):
        lines.add_row(
            "drain rate with tracing at 1%, of that without", _range(tracing["rate_of_untraced"], ".2f")
        )
        lines.add_row(
            "CPU time with tracing at 1%, of that without", _range(tracing["cpu_of_untraced"], ".2f")
        )
    return lines


def _drains(lines: Table, drains: dict[str, Any]) -> None:
    devices = f"{drains['devices']:,} devices"
    lines.add_row(f"drain, {devices}", f"{_range(drains['drain_per_second'], ',.0f')} records/s")
    lines.add_row("raw COPY of the same rows", f"{_range(drains['copy_per_second'], ',.0f')} rows/s")
    lines.add_row("ratio", _range(drains["ratio"], ".2f"))
    for name, microseconds in drains["cpu_us"].items():
        lines.add_row(f"CPU time a message, {name}", f"{microseconds:.1f} µs")
    lines.add_row("CPU time a message, all", f"{sum(drains['cpu_us'].values()):.1f} µs")
    for name, amount in drains["redis"].items():
        lines.add_row(f"Redis, {name} a message", f"{amount:,.2f}")
    for name, seen in drains["runs"][-1]["memory_mib"].items():
        sizes = [size for _, size in seen]
        lines.add_row(f"memory of {name}", f"{sizes[0]:.0f} MiB at first, {max(sizes):.0f} MiB at most")


def _answers(lines: Table, answers: dict[str, Any]) -> None:
    for name, spread in answers["answers_ms"].items():
        told = " / ".join(f"{spread[one]:.0f}" for one in ("p50", "p95", "most"))
        lines.add_row(f"{name}, p50 / p95 / most", f"{told} ms, {spread['answers']} answers")
    for name, ms in (("alone", answers["alone_ms"]), ("beside the console", answers["beside_ms"])):
        lines.add_row(
            f"publish to row at 1,000/s {name}, p50 / p95 / p99",
            " / ".join(_range(ms[one], ".0f") for one in ("p50", "p95", "p99")) + " ms",
        )


def _scale(lines: Table, scale: dict[str, Any]) -> None:
    for kind in ("workers", "bridges"):
        for step in scale[kind]["steps"]:
            lines.add_row(
                f"drain by {step['processes']} {kind} with {scale[kind]['share']:g} of a core each",
                f"{_range(step['per_second'], ',.0f')}/s, efficiency {_range(step['efficiency'], '.2f')},"
                f" {_range(step['cpu_us'], '.0f')} µs a message",
            )
    for step in scale["fleet"]:
        devices = f"{step['devices']:,} devices"
        rest = sum(step["rest_cpu"].values())
        lines.add_row(f"{devices} at rest, CPU of all programs", f"{rest:.1%} of a core")
        for name, cpu in step["cpu_us"].items():
            told = ", ".join(f"{program} {us:.1f}" for program, us in cpu.items())
            lines.add_row(f"{devices}, CPU of {name} readings", f"{sum(cpu.values()):.0f} µs: {told}")
        for kind, sizes in step.get("per_device", {}).items():
            told = ", ".join(f"{name} {size:,.0f}" for name, size in sizes.items() if abs(size) >= 1)
            lines.add_row(f"{devices}, {kind.replace('_', ' ')} of a device", told)


def _each(compared: dict[str, Any], name: str) -> str:
    each = compared[f"{name}_ratios"]
    return _range({"median": compared[f"{name}_ratio"], "least": min(each), "most": max(each)}, ".2f")


def _range(figure: dict[str, float], form: str) -> str:
    return f"{figure['median']:{form}} ({figure['least']:{form}} to {figure['most']:{form}})"
