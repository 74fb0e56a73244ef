"""The metrics as a table, made from their declaration: `sluice metrics` and `docs/metrics.md`."""

from tasks.observe.catalogue import CATALOGUE
from tasks.observe.instruments import Metric

HEADER = """# Metrics

Every process serves Prometheus' text format at `/metrics` of its own port: the worker at `METRICS_PORT`
(9000), the gateway at `GATEWAY_METRICS_PORT` (9001), the bridge at `BRIDGE_METRICS_PORT` (9002), the control
process at `CONTROL_METRICS_PORT` (9003), beat at `BEAT_METRICS_PORT` (9004). A worker's page is that of
all its children.
Counters begin at zero with their process. `sluice metrics` prints this page.

| metric | kind | shown by | means | what to do |
|---|---|---|---|---|
"""


def markdown() -> str:
    """All metrics with what they mean and what to do about them, as a Markdown page."""
    return HEADER + "\n".join(_row(metric) for metric in CATALOGUE) + "\n"


def _row(metric: Metric) -> str:
    labels = f" by {', '.join(metric.labels)}" if metric.labels else ""
    unit = f", {metric.unit}" if metric.unit else ""
    shown = ", ".join(metric.processes)
    return f"| `{metric.name}` | {metric.kind}{labels}{unit} | {shown} | {metric.meaning} | {metric.remedy} |"
