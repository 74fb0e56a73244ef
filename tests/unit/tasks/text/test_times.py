"""Points in time as people write them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.times import parse_moment

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_a_span_goes_back_from_now() -> None:
    """Seconds, minutes, hours, days and weeks."""
    found = [NOW - parse_moment(text, NOW) for text in ("45s", "90m", "12h", "7d", "2w")]
    assert found == [
        timedelta(seconds=45),
        timedelta(minutes=90),
        timedelta(hours=12),
        timedelta(days=7),
        timedelta(weeks=2),
    ]


def test_a_time_without_an_offset_is_utc() -> None:
    """And one with an offset is what it says."""
    assert parse_moment("2026-05-01T10:00", NOW) == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert parse_moment("2026-05-01T10:00+02:00", NOW) == datetime(2026, 5, 1, 8, tzinfo=UTC)


@given(st.text())
def test_anything_else_is_refused_with_what_was_expected(text: str) -> None:
    """Never another error than `ValueError`."""
    try:
        assert parse_moment(text, NOW).tzinfo is not None
    except ValueError as error:
        assert text in str(error)  # noqa: PT017 - which texts are not times is not ours to say


def test_a_span_beyond_the_beginning_of_time_is_refused() -> None:
    """Six digits of weeks are more than there were."""
    with pytest.raises(ValueError, match="before the first possible date"):
        parse_moment("999999w", NOW)
