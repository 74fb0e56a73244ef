"""The comparison of two revisions: what it makes of their figures, and what it says of a wrong revision."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.bench.compare import RevisionError, checkout, ratios

PROJECT = Path(__file__).resolve().parents[3]


def _drains(devices: int, cpu_us: float, per_second: float) -> dict[str, Any]:
    cold = {"cpu_us": {"worker": 1000.0}, "per_second": 1.0}
    warm = {"cpu_us": {"worker": cpu_us - 1, "bridge": 1.0}, "per_second": per_second}
    return {"devices": devices, "runs": [cold, warm]}


def test_ratios_are_medians_of_the_pairs_for_each_backlog() -> None:
    """This revision by the other, pair by pair; the run on cold servers does not count."""
    pairs = [
        ([_drains(90, cpu, 200), _drains(10_000, 30, 90)], [_drains(90, 80, 100), _drains(10_000, 30, 100)])
        for cpu in (40, 48, 80)
    ]
    few, many = ratios(pairs)
    assert few == {
        "devices": 90,
        "cpu_ratio": 0.6,
        "rate_ratio": 2.0,
        "cpu_ratios": [0.5, 0.6, 1.0],
        "rate_ratios": [2.0, 2.0, 2.0],
    }
    assert (many["devices"], many["cpu_ratio"], many["rate_ratio"]) == (10_000, 1.0, 0.9)


def test_a_revision_that_is_not_there_is_named() -> None:
    """Before anything is set up."""
    with pytest.raises(RevisionError, match="no-such-revision is not a revision"):
        checkout(PROJECT, "no-such-revision", Console())
