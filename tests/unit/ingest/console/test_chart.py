"""Charts: whatever the values are, what is drawn is inside, in order, and has its gaps."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.rows.series_wanted import Point
from ingest.console.chart import BOTTOM, HEIGHT, LEFT, RIGHT, SPANS, TOP, WIDTH, Chart, Span, draw

END = datetime(2026, 3, 2, 12, tzinfo=UTC)


def chart(values: dict[int, float | None], span: Span) -> Chart:
    """The chart of values by the numbers of their buckets."""
    begin = END - span.length
    points = [Point(begin + number * span.bucket, value, 1) for number, value in sorted(values.items())]
    return draw(points, begin, END, span)


def places(drawn: Chart) -> list[tuple[float, float]]:
    """All places of a chart, in order."""
    pairs = [pair.split(",") for line in drawn.lines for pair in line.split()]
    lines = [(float(x), float(y)) for x, y in pairs]
    return sorted([*lines, *drawn.dots])


@given(
    st.dictionaries(st.integers(0, 59), st.none() | st.floats(), max_size=60),
    st.sampled_from(SPANS),
)
def test_every_value_is_drawn_inside_the_chart(values: dict[int, float | None], span: Span) -> None:
    """Once each, whatever numbers a device sends; the grid goes from below the least to above the most."""
    drawn = chart(values, span)
    known = [one for one in values.values() if one is not None and abs(one) < float("inf")]
    assert len(places(drawn)) == len(known)
    for x, y in places(drawn):
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP - 1 <= y <= HEIGHT - BOTTOM + 1
    assert 2 <= len(drawn.rows) <= 12
    assert all(above.at < below.at for below, above in pairwise(drawn.rows))


def test_a_bucket_without_a_value_is_a_gap() -> None:
    """A line ends before it, and a value that is alone is a dot."""
    drawn = chart({0: 1.0, 1: 2.0, 5: 3.0, 9: 1.0, 10: None, 11: 4.0}, SPANS[0])
    assert [len(line.split()) for line in drawn.lines] == [2]
    assert len(drawn.dots) == 3


def test_the_grid_has_round_numbers_and_times() -> None:
    """As a person would choose them."""
    drawn = chart({0: 18.2, 1: 21.9}, SPANS[1])
    assert [row.text for row in drawn.rows] == ["18", "19", "20", "21", "22"]
    assert [column.text for column in drawn.columns] == (
        ["12:00", "16:00", "20:00", "00:00", "04:00", "08:00", "12:00"]
    )
    assert [row.text for row in chart({0: 5.0}, SPANS[1]).rows] == ["5", "5.5"]
    assert END - timedelta(days=30) == END - SPANS[2].length
