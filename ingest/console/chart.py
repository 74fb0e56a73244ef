"""A chart of one field over time, as numbers that a template draws."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from ingest.admin.rows.series_wanted import Point

WIDTH, HEIGHT = 900, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 15, 15, 30
MOST_STEPS = 5
# Differences of larger numbers are none that can be drawn.
MOST = 1e300


class Span(NamedTuple):
    """A range that a chart has, its buckets, and how its times are written."""

    name: str
    length: timedelta
    bucket: timedelta
    form: str


SPANS = (
    Span("hour", timedelta(hours=1), timedelta(minutes=1), "%H:%M"),
    Span("day", timedelta(days=1), timedelta(minutes=15), "%H:%M"),
    Span("month", timedelta(days=30), timedelta(hours=6), "%d %b"),
)


class Mark(NamedTuple):
    """A line of the grid: where it is, and what it says."""

    at: float
    text: str


class Chart(NamedTuple):
    """Lines of the series, each without a gap, points that are alone, and the grid."""

    lines: list[str]
    dots: list[tuple[float, float]]
    rows: list[Mark]
    columns: list[Mark]


def draw(points: Sequence[Point], begin: datetime, end: datetime, span: Span) -> Chart:
    """The chart of the points between two times; a bucket without a value is a gap."""
    known = [
        (one.time, min(MOST, max(-MOST, one.value)))
        for one in points
        if one.value is not None and math.isfinite(one.value)
    ]
    steps = _steps([value for _, value in known])
    low, high = steps[0], steps[-1]
    size = (high - low) or 1.0

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / size * (HEIGHT - TOP - BOTTOM), 1)

    runs: list[list[tuple[float, float]]] = []
    last: datetime | None = None
    for time, value in known:
        if last is None or time - last > span.bucket:
            runs.append([])
        runs[-1].append((across(time, begin, end), y(value)))
        last = time
    return Chart(
        lines=[" ".join(f"{a},{b}" for a, b in run) for run in runs if len(run) > 1],
        dots=[run[0] for run in runs if len(run) == 1],
        rows=[Mark(y(step), f"{step:.6g}") for step in steps],
        columns=times(begin, end, span.form),
    )


def times(begin: datetime, end: datetime, form: str) -> list[Mark]:
    """The labels below the chart: seven times, from the begin to the end."""
    return [
        Mark(across(time, begin, end), f"{time.astimezone(UTC):{form}}")
        for time in (begin + number * (end - begin) / 6 for number in range(7))
    ]


def across(time: datetime, begin: datetime, end: datetime) -> float:
    """Where a time is between the begin and the end, from left to right."""
    part = (time - begin) / (end - begin)
    return round(LEFT + min(1.0, max(0.0, part)) * (WIDTH - LEFT - RIGHT), 1)


def _steps(values: Sequence[float]) -> list[float]:
    """Round numbers around the values, at least two and in order."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    least = (high - low) / MOST_STEPS or abs(high) / 10 or 1.0
    unit = 10.0 ** math.floor(math.log10(least))
    step = next((unit * factor for factor in (1, 2, 5, 10) if unit * factor >= least), unit * 10)
    first, last = math.floor(low / step), math.ceil(high / step)
    steps = [number * step for number in range(first, max(last, first + 1) + 1)]
    # Numbers may be so close together that a step is lost in them.
    return steps if all(below < above for below, above in pairwise(steps)) else [low, low + (abs(low) or 1.0)]
