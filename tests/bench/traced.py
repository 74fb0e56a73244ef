"""The cost of tracing for the drain: with it off, and with one message in a hundred sampled, in turn."""

import statistics
from contextlib import nullcontext
from typing import Any

from rich.progress import Progress

from compose.local.stack import Stack
from tests.bench.backlog import Backlog
from tests.bench.drain import Drain, drain
from tests.bench.setting import setting
from tests.integration.collector import collecting

RATIO = 0.01


def traced(stack: Stack, backlog: Backlog, pairs: int, progress: Progress) -> dict[str, Any]:
    """Pairs of drains, spans exported to a collector on loopback; the backlog must have sampled traces."""
    with collecting() as collector:
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "TRACE_SAMPLE_RATIO": str(RATIO)}
        found = [
            (_run(stack, backlog, progress, None), _run(stack, backlog, progress, on)) for _ in range(pairs)
        ]
    _restart(stack)
    rates = [traced.per_second / plain.per_second for plain, traced in found]
    costs = [_cpu(traced) / _cpu(plain) for plain, traced in found]
    return {
        "ratio": RATIO,
        "records": backlog.shape.records,
        "rate_of_untraced": {"median": statistics.median(rates), "least": min(rates), "most": max(rates)},
        "cpu_of_untraced": {"median": statistics.median(costs), "least": min(costs), "most": max(costs)},
        "per_second": [[plain.per_second, traced.per_second] for plain, traced in found],
        "cpu_us": [[_cpu(plain), _cpu(traced)] for plain, traced in found],
    }


def _run(stack: Stack, backlog: Backlog, progress: Progress, values: dict[str, str] | None) -> Drain:
    with setting(stack, values) if values else nullcontext():
        _restart(stack)
        return drain(stack, backlog, progress)


def _restart(stack: Stack) -> None:
    stack.stop("worker")
    stack.start("worker")


def _cpu(run: Drain) -> float:
    return sum(run.cpu_us.values())
