"""Dashboards and rules speak of metrics, labels and sources that there are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tasks.observe.catalogue import CATALOGUE
from tasks.observe.instruments import Metric

FOLDER = Path(__file__).resolve().parents[2] / "compose" / "observability"
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
SOURCES = re.findall(
    r"^    uid: (\S+)$", (FOLDER / "grafana/provisioning/datasources/sluice.yaml").read_text(), re.MULTILINE
)
# Their queries are run by tests/integration/test_roles.py.
BY_SQL = {"readings", "alerts"}

# What a metric of the list is called on the page.
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
KNOWN = {metric.name + suffix: metric for metric in CATALOGUE for suffix in SUFFIXES[metric.kind]}


def named(text: str) -> set[str]:
    """The names in an expression that are Sluice's metrics, or want to be."""
    return set(re.findall(r"\b(?:sluice|db)_[a-z0-9_]+", text))


def expressions(dashboard: Any) -> list[str]:
    """The PromQL of the dashboard."""
    return [
        target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if target["datasource"]["uid"] == "prometheus"
    ]


def test_there_is_a_dashboard_of_each_kind() -> None:
    """The pipeline, one device, the errors, Celery; readings and alerts from the database."""
    kinds = {"pipeline", "device", "errors", "celery", "readings", "alerts"}
    assert {path.stem for path in DASHBOARDS} == kinds


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    """It has what Grafana needs, its panels do not overlap, and its sources are provisioned."""
    dashboard = json.loads(path.read_text())
    assert {"uid", "title", "schemaVersion", "panels", "time", "templating"} <= dashboard.keys()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert {"id", "type", "title", "datasource", "gridPos", "targets"} <= panel.keys()
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] in SOURCES
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$([a-z]+)\b", json.dumps(dashboard["panels"]))) <= variables


@pytest.mark.parametrize(
    "path", [path for path in DASHBOARDS if path.stem not in BY_SQL], ids=lambda path: path.stem
)
def test_a_dashboard_shows_metrics_that_there_are(path: Path) -> None:
    """Every metric that it names is in the list, by a label that the metric has."""
    found = expressions(json.loads(path.read_text()))
    assert found
    for expression in found:
        assert_known(expression)


def test_the_rules_judge_metrics_that_there_are() -> None:
    """Every metric that a rule or its test names is in the list."""
    for path in (FOLDER / "prometheus" / "rules").glob("*.yml"):
        assert_known(path.read_text())
    for path in (FOLDER / "prometheus" / "tests").glob("*.yml"):
        assert named(path.read_text()) <= KNOWN.keys()


def test_every_metric_is_on_a_dashboard_or_in_a_rule() -> None:
    """One that nobody looks at need not be counted; these few are for a closer look by hand."""
    paths = (*DASHBOARDS, *FOLDER.glob("prometheus/rules/*.yml"))
    shown = named("".join(path.read_text() for path in paths))
    by_hand = {
        "sluice_gateway_received_bytes_total",
        "sluice_control_requests",
        "sluice_bridge_batches_sent_total",
        "sluice_devices_counted_again_total",
    }
    pages = {metric.name: {metric.name + suffix for suffix in SUFFIXES[metric.kind]} for metric in CATALOGUE}
    unseen = {name for name, names in pages.items() if not names & shown}
    assert unseen == by_hand


def assert_known(expression: str) -> None:
    """Fails with the name or the label that there is not."""
    names = named(expression)
    assert names <= KNOWN.keys(), names - KNOWN.keys()
    metrics: list[Metric] = [KNOWN[name] for name in names]
    labels = {label for metric in metrics for label in metric.labels}
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        for label in re.split(r",\s*", group):
            assert label in labels | {"le", "job", "instance"}, f"{label} in {expression}"
