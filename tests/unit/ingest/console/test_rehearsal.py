"""Rules tried on history: when alerts would have been open is drawn inside the picture, and not twice."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.console.chart import LEFT, RIGHT, WIDTH
from ingest.console.rehearsal import FLAT, PARTS, bars


def test_bars_are_as_high_as_alerts_were_open_together() -> None:
    """And as wide as the time; neighbours of one height are one bar."""
    found = bars([0, 1, 1, 2, 0, 2], 0, 40)
    assert [(one.y, one.height) for one in found] == [(20, 20), (0, 40), (0, 40)]
    part = (WIDTH - LEFT - RIGHT) / 6
    assert [round(one.width / part, 1) for one in found] == [2, 1, 1]
    assert found[0].x == round(LEFT + part, 1)
    assert bars([0, 0], 0, 40) == bars([], 0, 40) == []


@given(st.lists(st.integers(0, 5), max_size=PARTS))
def test_bars_are_inside_the_picture_and_none_is_over_another(open_together: list[int]) -> None:
    """However the alerts lie; each part of the time with one has its bar."""
    found = bars(open_together, 0, FLAT)
    assert bool(found) == any(open_together)
    for one in found:
        assert one.x >= LEFT
        assert one.x + one.width <= WIDTH - RIGHT + 0.2
        assert one.y >= 0
        assert 0 < one.height <= FLAT
    assert all(before.x + before.width <= after.x + 0.2 for before, after in pairwise(found))
