"""Counters, gauges and histograms, declared in `tasks.observe.metrics`, in Prometheus' text format.

A worker's children count into files of their own, in a folder that its main process makes at its start and
reads at each scrape. The files are named after the child's place in the pool, which a successor takes over,
so that neither a child that ends nor one that starts changes a total. The main process itself counts nothing:
a fork in the middle of that would leave the child with a lock that is never released. Its own metrics are
read at the scrape (`read_from`).
"""

import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import prometheus_client
from billiard.process import current_process
from prometheus_client import CollectorRegistry, generate_latest, multiprocess, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family

Process = Literal["gateway", "bridge", "control", "worker", "beat", "web"]
Kind = Literal["counter", "gauge", "histogram"]

Reading = float | Mapping[tuple[str, ...], float] | None
"""A function's result at a scrape: one value, one for each combination of labels, or None if unknown."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

_REGISTRY = CollectorRegistry()
_FOLDER_PREFIX = f"sluice-metrics-{os.getuid()}-"


@dataclass(eq=False)
class Metric(ABC):
    """One metric: its name, its labels, what it means, and what to do about a bad value.

    `processes` export it from their start on, so that its first change is visible. Raises `ValueError` for a
    name that another metric has.
    """

    kind: ClassVar[Kind]
    catalogue: ClassVar[list["Metric"]] = []

    name: str
    processes: tuple[Process, ...]
    meaning: str
    remedy: str
    labels: tuple[str, ...] = field(default=(), kw_only=True)
    unit: str = field(default="", kw_only=True)
    _read: Callable[[], Reading] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if any(other.name == self.name for other in self.catalogue):
            raise ValueError(f"two metrics are called {self.name}")
        self.catalogue.append(self)

    @abstractmethod
    def begin(self) -> None:
        """Exports the metric from now on, at zero if it has no labels."""

    def read(self) -> Family | None:
        """The present result of the function of `read_from`; None without one, or when it is unknown."""
        reading = self._read() if self._read else None
        if reading is None:
            return None
        family: CounterMetricFamily | GaugeMetricFamily = (
            CounterMetricFamily(self.name, self.meaning, labels=self.labels)
            if self.kind == "counter"
            else GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
        )
        for labels, value in (reading if isinstance(reading, Mapping) else {(): reading}).items():
            family.add_metric(labels, value)
        return family


@dataclass(eq=False)
class Counter(Metric):
    """A total that only grows; it starts at zero with its process."""

    kind = "counter"

    def add(self, amount: float, *labels: str) -> None:
        """Adds to the total. It costs microseconds: count batches, not messages."""
        counter = self._instrument
        (counter.labels(*labels) if labels else counter).inc(amount)

    def read_from(self, function: Callable[[], Reading]) -> None:
        """Reads the total from the function at each scrape, if counting each event would cost too much.

        Must be called before `begin`, or the metric would be exported twice.
        """
        self._read = function

    def begin(self) -> None:
        """Exports the total from now on, at zero if it has no labels and no function."""
        if self._read is None:
            _ = self._instrument

    @cached_property
    def _instrument(self) -> prometheus_client.Counter:
        return prometheus_client.Counter(self.name, self.meaning, self.labels, registry=_REGISTRY)


@dataclass(eq=False)
class Gauge(Metric):
    """A value that goes up and down, read by a function: nothing is exported before `read_from`."""

    kind = "gauge"

    def read_from(self, function: Callable[[], Reading]) -> None:
        """Reads the value from the function at each scrape."""
        self._read = function

    def begin(self) -> None:
        """Does nothing: a gauge has no value before it is measured."""


@dataclass(eq=False)
class Histogram(Metric):
    """The distribution of a value."""

    kind = "histogram"

    unit: str = field(default="seconds", kw_only=True)
    buckets: tuple[float, ...] = field(default=SECONDS, kw_only=True)

    def observe(self, value: float, *labels: str) -> None:
        """Adds one value."""
        histogram = self._instrument
        (histogram.labels(*labels) if labels else histogram).observe(value)

    @contextmanager
    def time(self, *labels: str) -> Iterator[None]:
        """Adds how many seconds the block took, however it ended."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - begun, *labels)

    def begin(self) -> None:
        """Exports the distribution from now on, empty if it has no labels."""
        _ = self._instrument

    @cached_property
    def _instrument(self) -> prometheus_client.Histogram:
        return prometheus_client.Histogram(
            self.name, self.meaning, self.labels, registry=_REGISTRY, buckets=self.buckets
        )


class _Readings:
    """The metrics whose values are read by functions, as a collector of prometheus_client."""

    def collect(self) -> Iterator[Family]:
        """One family for each function that returns a value."""
        for metric in Metric.catalogue:
            if (family := metric.read()) is not None:
                yield family


class _Shared:
    """The folder into which this worker's children count; None outside of workers."""

    folder: ClassVar[Path | None] = None


def begin(process: Process) -> None:
    """Exports the metrics of the process from now on, starting at zero."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    for metric in Metric.catalogue:
        if process in metric.processes:
            metric.begin()


def share() -> None:
    """Makes this process the main process of a worker: from now on its children count into one folder.

    Call it before the first fork and before anything is counted.
    """
    _remove_left_over()
    folder = tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-")
    # prometheus_client reads the environment when it is imported, and Celery imports it before any code of
    # ours, by Flower's plug-in.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    values.ValueClass = values.MultiProcessValue(_place)  # type: ignore[no-untyped-call]
    _Shared.folder = Path(folder)


def stop_sharing() -> None:
    """Removes the folder, at the end of the main process."""
    if folder := _Shared.folder:
        shutil.rmtree(folder, ignore_errors=True)


def exposition() -> bytes:
    """All metrics of this process, and of a worker's children, in Prometheus' text format."""
    shown = CollectorRegistry()
    shown.register(_Readings())
    if folder := _Shared.folder:
        multiprocess.MultiProcessCollector(shown, str(folder))  # type: ignore[no-untyped-call]
    else:
        shown.register(_REGISTRY)
    return generate_latest(shown)


def _place() -> str:
    """This process's place in the pool of its worker. No two live processes have the same."""
    return str(getattr(current_process(), "index", "main"))


def _remove_left_over() -> None:
    """Removes the folders of main processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        with suppress(ValueError, OSError):
            if not _alive(int(folder.name.removeprefix(_FOLDER_PREFIX).partition("-")[0])):
                shutil.rmtree(folder)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
