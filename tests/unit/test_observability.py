"""Dashboards and rules speak of metrics, labels and sources that there are."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tasks.observe.catalogue import CATALOGUE
from tasks.observe.instruments import Metric

FOLDER = Path(__file__).resolve().parents[2] / "compose" / "observability"
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
_SOURCES = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/sluice.yaml").read_text())
PROVISIONED = {one["uid"]: one["type"] for one in _SOURCES["datasources"]}
SCHEMA = json.loads((Path(__file__).parent / "dashboard.schema.json").read_text())
# Their queries are run by tests/integration/test_roles.py.
BY_SQL = {"readings", "alerts"}

# The name of a metric of the list on the page.
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
KNOWN = {metric.name + suffix: metric for metric in CATALOGUE for suffix in SUFFIXES[metric.kind]}


def faults(dashboard: Any) -> list[str]:
    """The parts that are not as the schema says."""
    found = jsonschema.Draft202012Validator(SCHEMA).iter_errors(dashboard)
    return [f"{one.json_path}: {one.message}" for one in found]


def sources_of(value: Any) -> list[Any]:
    """Every source that is named somewhere in it."""
    if isinstance(value, list):
        return [one for item in value for one in sources_of(item)]
    if not isinstance(value, dict):
        return []
    own = [value["datasource"]] if "datasource" in value else []
    return own + [one for item in value.values() for one in sources_of(item)]


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
            assert target["datasource"]["uid"] in PROVISIONED
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$([a-z]+)\b", json.dumps(dashboard["panels"]))) <= variables


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_one_of_grafana_s(path: Path) -> None:
    """By our own schema of the fields in use: Grafana says nothing of a field that it does not know."""
    dashboard = json.loads(path.read_text())
    assert faults(dashboard) == []
    # With several sources of one kind a panel would still name the right one.
    assert {one["uid"]: one["type"] for one in sources_of(dashboard)}.items() <= PROVISIONED.items()
    for panel in dashboard["panels"]:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {panel["datasource"]["uid"]}


def test_no_two_dashboards_have_one_id_or_name() -> None:
    """The second would replace the first."""
    all_of_them = [json.loads(path.read_text()) for path in DASHBOARDS]
    for name in ("uid", "title"):
        assert len({one[name] for one in all_of_them}) == len(all_of_them)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("panels", 0, "tilte"), "x"),
        (("panels", 0, "type"), "graph"),
        (("panels", 0, "gridPos", "w"), 25),
        (("panels", 0, "fieldConfig", "defaults", "unit"), "seconds"),
        (("panels", 0, "options", "tooltips"), {}),
        (("panels", 0, "targets", 0, "rawSql"), "SELECT 1"),
        (("panels", 0, "targets", 0, "datasource", "type"), "tempo"),
        (("schemaVersion",), 16),
        (("time", "from"), "1h"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_what_grafana_does_not_know_is_a_fault(place: tuple[Any, ...], value: object) -> None:
    """The schema sees it."""
    dashboard = json.loads((FOLDER / "grafana" / "dashboards" / "pipeline.json").read_text())
    inside = dashboard
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    assert faults(dashboard)


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
