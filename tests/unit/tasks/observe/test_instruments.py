"""What processes count is shown once, whole, and no longer than it is true: also across forks and deaths."""

import os
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from billiard.process import current_process
from prometheus_client import CollectorRegistry, values
from prometheus_client.parser import text_string_to_metric_families

from tasks.observe import instruments
from tasks.observe.instruments import Counter, Gauge, Histogram, Metric
from tasks.observe.port import Monitoring


def shown() -> dict[str, float]:
    """The samples of this process's page, by name and labels; fails when one is there twice."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(instruments.exposition().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}"
            assert key not in found, f"{key} is shown twice"
            found[key] = sample.value
    return found


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> tuple[Counter, Gauge, Histogram]:
    """One metric of each kind, alone in the world."""
    monkeypatch.setattr(Metric, "catalogue", [])
    monkeypatch.setattr(instruments, "_REGISTRY", CollectorRegistry())
    return (
        Counter("t_things_total", ("worker",), "m", "r", labels=("kind",)),
        Gauge("t_level", ("worker",), "m", "r"),
        Histogram("t_seconds", ("worker",), "m", "r", buckets=(1.0, 2.0)),
    )


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process is the main process of a worker."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setattr(instruments._Shared, "folder", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    instruments.share()


def child(place: int, work: Callable[[], None]) -> int:
    """Runs the work in a forked child that has this place in the pool; returns its exit code or -signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            vars(current_process())["index"] = place
            work()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_one_process_shows_what_it_counted(metrics: tuple[Counter, Gauge, Histogram]) -> None:
    """Counters add, histograms have their observations."""
    counter, _, histogram = metrics
    counter.add(2, "a")
    counter.add(3, "a")
    histogram.observe(1.5)
    found = shown()
    assert found["t_things_total{kind=a}"] == 5
    assert (found["t_seconds_bucket{le=1.0}"], found["t_seconds_bucket{le=2.0}"]) == (0, 1)
    assert found["t_seconds_sum{}"] == 1.5


def test_a_metric_without_labels_is_zero_before_anything_happens(
    metrics: tuple[Counter, Gauge, Histogram],
) -> None:
    """So the first event is a rise from zero, which an alert rule can see."""
    instruments.begin("worker")
    assert "t_level{}" not in shown()
    assert shown()["t_seconds_count{}"] == 0
    assert metrics


def test_a_function_is_asked_at_each_scrape(metrics: tuple[Counter, Gauge, Histogram]) -> None:
    """Its value is shown under the metric's labels; when it knows none, nothing is shown."""
    counter, gauge, _ = metrics
    level: list[float | None] = [1.0, 2.0, None]
    gauge.read_from(lambda: level.pop(0))
    counter.read_from(lambda: {("a",): 1, ("b",): 2})
    instruments.begin("worker")
    first = shown()
    assert (first["t_level{}"], first["t_things_total{kind=a}"], first["t_things_total{kind=b}"]) == (1, 1, 2)
    assert shown()["t_level{}"] == 2
    assert "t_level{}" not in shown()


@pytest.mark.usefixtures("shared")
def test_children_count_together(metrics: tuple[Counter, Gauge, Histogram]) -> None:
    """The totals of all children are one series, and those of a killed child are kept."""
    counter, _, histogram = metrics
    instruments.begin("worker")

    def work(*, die: bool) -> Callable[[], None]:
        def run() -> None:
            counter.add(10, "a")
            histogram.observe(0.5)
            if die:
                os.kill(os.getpid(), signal.SIGKILL)

        return run

    assert child(0, work(die=False)) == 0
    assert child(1, work(die=True)) == -signal.SIGKILL
    found = shown()
    assert found["t_things_total{kind=a}"] == 20
    assert found["t_seconds_count{}"] == 2


@pytest.mark.usefixtures("shared")
def test_a_successor_goes_on_where_the_dead_child_was(metrics: tuple[Counter, Gauge, Histogram]) -> None:
    """However many children come and go, nothing is lost and there are no more files than places."""
    counter, _, _ = metrics

    def work() -> None:
        for _ in range(100):
            counter.add(1, "a")
        os.kill(os.getpid(), signal.SIGKILL)

    for place in (0, 1, 0, 1, 0):
        assert child(place, work) == -signal.SIGKILL
    assert shown()["t_things_total{kind=a}"] == 500
    folder = instruments._Shared.folder
    assert folder is not None
    assert len(list(folder.glob("counter_*.db"))) <= 3


@pytest.mark.usefixtures("shared")
def test_a_new_main_process_removes_what_a_killed_one_left(
    metrics: tuple[Counter, Gauge, Histogram], tmp_path: Path
) -> None:
    """Folders of processes that are gone do not pile up, and their totals are not counted again."""
    left = tmp_path / f"{instruments._FOLDER_PREFIX}999999999-x"
    left.mkdir()
    first = instruments._Shared.folder
    instruments.share()
    assert not left.exists()
    assert first is not None
    assert first.exists(), "the folder of a process that lives was removed"
    instruments.stop_sharing()
    assert instruments._Shared.folder is not None
    assert not instruments._Shared.folder.exists()
    assert metrics


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of the page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_port_serves_metrics_and_health(metrics: tuple[Counter, Gauge, Histogram]) -> None:
    """/metrics is Prometheus' format; /healthz and /readyz are 200, or 503 with what is wrong."""
    monitoring = Monitoring("worker", 0)
    assert monitoring.port == 0
    monitoring = Monitoring("worker", None, ready=lambda: "no partitions yet")
    try:
        assert "t_seconds_count 0.0" in get(monitoring.port, "/metrics")[1]
        assert get(monitoring.port, "/healthz") == (200, "ok\n")
        assert get(monitoring.port, "/readyz") == (503, "no partitions yet\n")
        assert get(monitoring.port, "/else")[0] == 404
        taken = Monitoring("worker", monitoring.port)
        assert taken.port == 0
    finally:
        monitoring.close()
    assert metrics
