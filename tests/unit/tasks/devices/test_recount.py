"""How far back rows are counted after activity was lost."""

from datetime import date, timedelta

import pytest

from tasks.devices.recount import FIRST_DAYS, LATER_DAYS, Progress, after_loss

TODAY = date(2026, 5, 20)


def back(days: int) -> str:
    """Some days ago."""
    return (TODAY - timedelta(days=days)).isoformat()


@pytest.mark.parametrize(
    ("before", "lost", "days"),
    [
        (None, 0, FIRST_DAYS),
        (Progress(back(9), FIRST_DAYS, FIRST_DAYS), 0, LATER_DAYS),
        (Progress(back(9), FIRST_DAYS, FIRST_DAYS), 5, LATER_DAYS + 5),
        (Progress(back(9), FIRST_DAYS, FIRST_DAYS), 900, FIRST_DAYS),
        (Progress(back(0), FIRST_DAYS, 3), 0, FIRST_DAYS),
        (Progress(back(0), LATER_DAYS, 1), 0, LATER_DAYS),
        (Progress(back(0), 7, 1), 0, 7),
    ],
)
def test_as_far_as_something_can_be_missing(before: Progress | None, lost: int, days: int) -> None:
    """A count that was broken off begins again, as far as it was to go, or as activity was lost since."""
    assert after_loss(before, TODAY, lost) == Progress(back(0), days, 0)
