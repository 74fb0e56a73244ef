"""The alert rules as Prometheus itself checks and tries them, and a real Prometheus on the running stack."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from compose.local import ports
from compose.local.stack import Stack
from tasks.observe.catalogue import CATALOGUE
from tests.conftest import PROJECT
from tests.integration import enclosure, fleet, pages
from tests.integration.production import produce

FOLDER = PROJECT / "compose" / "observability" / "prometheus"


def test_the_configuration_and_the_rules_are_valid() -> None:
    """promtool finds nothing wrong with what the stack mounts."""
    said = enclosure.run(["promtool", "check", "config", "/srv/read/prometheus.yml"], read=FOLDER)
    assert "SUCCESS" in said


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    """`promtool test rules` on the series that prometheus/tests describes."""
    said = enclosure.run(["promtool", "test", "rules", "/srv/read/tests/sluice.yml"], read=FOLDER)
    assert "SUCCESS" in said


def test_every_alert_has_a_test_and_a_runbook_entry() -> None:
    """A rule that nobody tried, or that leaves its reader alone, is none."""
    rules = (FOLDER / "rules" / "sluice.yml").read_text()
    tests = (FOLDER / "tests" / "sluice.yml").read_text()
    headings = {
        line.removeprefix("## ").strip().lower().replace(" ", "-")
        for line in (PROJECT / "docs" / "runbook.md").read_text().splitlines()
        if line.startswith("## ")
    }
    names = [line.split()[-1] for line in rules.splitlines() if "- alert:" in line]
    assert len(names) >= 6
    for name in names:
        assert f"alertname: {name}" in tests
    anchors = [line.rpartition("#")[2].rstrip('"') for line in rules.splitlines() if "runbook:" in line]
    assert len(anchors) == len(names)
    assert set(anchors) <= headings


@pytest.mark.usefixtures("beat")
def test_prometheus_sees_what_the_processes_show(pipeline: Stack, tmp_path: Path) -> None:
    """A real Prometheus scrapes every process, has a value of each metric without labels, and no alert."""
    pipeline.up(["notify", "web"], prepare=False)
    port = ports.free({})["METRICS_PORT"]
    targets = [
        {
            "job_name": process,
            "static_configs": [{"targets": [f"127.0.0.1:{pipeline.env[variable]}"]}],
        }
        for process, variable in {**pages.VARIABLES, "web": "WEB_METRICS_PORT"}.items()
    ]
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": targets}
    tmp_path.chmod(0o777)
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    argv = ["prometheus", "--config.file=/srv/write/prometheus.yml", "--storage.tsdb.path=/tmp/tsdb"]
    with enclosure.running([*argv, f"--web.listen-address=127.0.0.1:{port}"], write=tmp_path):
        fleet.wait_until(lambda: _up(port) == len(targets), 60, "Prometheus to reach every process")
        before = _query(port, "sum(sluice_messages_received_total)")
        produce(pipeline, uuid4().hex[:8], range(2000))
        fleet.wait_until(
            lambda: _query(port, "sum(sluice_messages_received_total)") >= before + 2000,
            60,
            "Prometheus to have counted 2,000 messages",
        )
        for metric in CATALOGUE:
            if not metric.labels:
                name = metric.name + ("_count" if metric.kind == "histogram" else "")
                # A page that came late once has no value until the next look.
                fleet.wait_until(lambda name=name: _query(port, f"count({name})") > 0, 30, name)  # type: ignore[misc]
    pipeline.stop("notify")
    pipeline.stop("web")


def _ask(port: int, query: str) -> list[Any]:
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: list[Any] = json.load(answer)["data"]["result"]
    return found


def _query(port: int, query: str) -> float:
    found = _ask(port, query)
    return float(found[0]["value"][1]) if found else -1.0


def _up(port: int) -> float:
    try:
        return _query(port, "sum(up)")
    except OSError:
        return -1.0
