"""The page of metrics is the declaration's, and every metric is named as Prometheus' users expect."""

import re
from pathlib import Path

import pytest

from ingest.cli.pages import metrics_page
from tasks.observe.instruments import Metric

PAGE = Path(__file__).resolve().parents[4] / "docs" / "metrics.md"


def test_the_page_of_metrics_is_up_to_date() -> None:
    """`sluice metrics > docs/metrics.md` has been run since the last change of a metric."""
    assert PAGE.read_text() == metrics_page()


@pytest.mark.parametrize("metric", Metric.catalogue, ids=lambda metric: metric.name)
def test_a_metric_says_what_it_means_and_what_to_do(metric: Metric) -> None:
    """Two sentences each; a counter ends in _total and nothing else does; times are in seconds."""
    assert metric.meaning.endswith(".")
    assert metric.remedy.endswith(".")
    assert metric.processes
    assert re.fullmatch(r"(sluice|db)_[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not re.search(r"_(ms|milliseconds|minutes|kb|mb)(_|$)", metric.name)
    assert "|" not in metric.meaning + metric.remedy
