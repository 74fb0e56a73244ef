"""The picture of when alerts were open."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.rulesets.rules_picture import BARS, NONE, WIDTH, picture

START = datetime(2026, 5, 1, 10, tzinfo=UTC)
SPANS = st.lists(st.tuples(st.integers(-50, 5000), st.none() | st.integers(0, 5000)), max_size=8)


def at(minutes: float) -> datetime:
    """So many minutes after the start."""
    return START + timedelta(minutes=minutes)


def bars(text: str) -> str:
    """The bars of a picture alone."""
    return "".join(one for one in text if one in BARS or one == NONE)


def test_bars_are_as_high_as_alerts_were_open_together() -> None:
    """Each stands for a sixtieth of the time, here a minute; a short alert has one, too."""
    shown = picture([(at(10), at(20)), (at(15), at(16)), (at(59), None)], START, at(60))
    assert shown.startswith("05-01 10:00 ")
    assert shown.endswith(" 05-01 11:00, at most 2 at once")
    assert bars(shown) == "·" * 10 + "▁" * 5 + "██" + "▁" * 4 + "·" * 38 + "▁"


def test_one_alert_at_a_time_is_full_bars() -> None:
    """There is nothing to compare their height with."""
    assert bars(picture([(at(0), at(30))], START, at(60))) == "█" * 31 + "·" * 29


@given(SPANS, st.integers(0, 5000))
def test_a_picture_is_a_line_of_one_width(spans: list[tuple[int, int | None]], minutes: int) -> None:
    """However the alerts lie to the time that is shown; each shows."""
    given = [(at(one), None if end is None else at(one + end)) for one, end in spans]
    shown = picture(given, START, at(minutes))
    assert len(bars(shown)) == (WIDTH if minutes else 0)
    assert bool(set(bars(shown)) & set(BARS)) == bool(spans and minutes)
