"""Windows agree, minute by minute, with what a clock on the wall shows, also on days on which it is set."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.channels.windows import DAY_MINUTES, Once, Recurring, days_of, instant, minutes_of, open_until

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
# Clocks that are set by an hour, by half an hour, at midnight, by a whole day, often, and never.
SET_ON = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Sao_Paulo", "2018-02-18"),
    ("Pacific/Apia", "2011-12-30"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Asia/Kathmandu", "2026-06-01"),
    ("UTC", "2026-01-01"),
]
places = st.sampled_from(SET_ON)
minutes = st.one_of(st.integers(0, DAY_MINUTES - 1), st.sampled_from([0, 60, 90, 120, 150, 180]))
weekdays = st.frozensets(st.integers(0, 6), min_size=1)


@lru_cache
def shown(zone: ZoneInfo, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Each minute, and what the zone's clock shows in it."""
    count = (until - since) // MINUTE
    times = [since + number * MINUTE for number in range(count)]
    return [(time, time.astimezone(zone).replace(tzinfo=None)) for time in times]


def plainly_open(
    zone: ZoneInfo, days: frozenset[int], start: int, end: int, since: datetime, until: datetime
) -> set[datetime]:
    """The open minutes: of each date, from the first at or after the start to the last before the end."""
    wall = shown(zone, since - 3 * DAY, until + 3 * DAY)
    found: set[datetime] = set()
    day = datetime.combine(wall[0][1].date(), datetime.min.time()) + DAY
    while day < wall[-1][1] - DAY:
        opens = day + start * MINUTE
        closes = day + end * MINUTE + (DAY if end <= start else timedelta(0))
        if day.weekday() in days:
            first = next(index for index, (_, local) in enumerate(wall) if local >= opens)
            last = len(wall) - next(
                index for index, (_, local) in enumerate(reversed(wall)) if local < closes
            )
            found |= {time for time, _ in wall[first:last]}
        day += DAY
    return {time for time in found if since <= time < until}


@example(("America/New_York", "2026-11-01"), frozenset({0, 5}), 61, 60)
@given(places, weekdays, minutes, st.one_of(minutes, st.just(DAY_MINUTES)))
def test_windows_are_open_when_the_wall_clock_says_so(
    place: tuple[str, str], days: frozenset[int], start: int, end: int
) -> None:
    """Over the days around the one on which the clock is set; `open_until` agrees with the spans."""
    zone, set_on = ZoneInfo(place[0]), datetime.fromisoformat(place[1]).replace(tzinfo=UTC)
    if start == end:
        end += 1
    window = Recurring(zone, days, start, end)
    since, until = set_on - 2 * DAY, set_on + 2 * DAY
    wanted = plainly_open(zone, days, start, end, since, until)
    spans = list(window.spans(since, until))
    covered = {
        since + number * MINUTE
        for number in range((until - since) // MINUTE)
        if any(span.start <= since + number * MINUTE < span.end for span in spans)
    }
    assert covered == wanted
    assert spans == sorted(spans)
    for time in list(wanted)[:20]:
        closes = open_until(window, time)
        assert closes is not None
        assert time < closes
        assert closes - MINUTE in wanted or closes > until
    assert all(
        open_until(window, time) is None
        for time, _ in shown(zone, since, since + DAY)[::97]
        if time not in wanted
    )


@given(
    st.datetimes(datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("2030-01-01")),
    st.integers(1, 10_000),
    st.integers(-20_000, 20_000),
)
def test_a_single_window_is_open_from_its_start_to_before_its_end(
    start: datetime, length: int, moment: int
) -> None:
    """And at no other time."""
    begins = start.replace(tzinfo=UTC)
    window = Once(begins, begins + length * MINUTE)
    expected = window.end if 0 <= moment < length else None
    assert open_until(window, begins + moment * MINUTE) == expected


def test_windows_that_meet_are_one_to_their_end_but_not_for_ever() -> None:
    """All of Saturday and Sunday is one weekend; all days of the week are shown about a week ahead."""
    zone = ZoneInfo("Europe/Berlin")
    weekend = Recurring(zone, frozenset({5, 6}), 0, DAY_MINUTES)
    saturday = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert open_until(weekend, saturday) == datetime(2026, 11, 29, 23, tzinfo=UTC)
    always = open_until(Recurring(zone, frozenset(range(7)), 0, DAY_MINUTES), saturday)
    assert always is not None
    assert timedelta(days=7) < always - saturday < timedelta(days=9)


def test_a_local_time_that_comes_twice_or_never() -> None:
    """The first or the last time of two; when the clock is set, for one that it leaves out."""
    zone = ZoneInfo("Europe/Berlin")
    twice, never = map(datetime.fromisoformat, ("2026-10-25T02:30", "2026-03-29T02:30"))
    assert instant(twice, zone, last=False) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert instant(twice, zone, last=True) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert (
        instant(never, zone, last=False)
        == instant(never, zone, last=True)
        == datetime(2026, 3, 29, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon-fri", ["mon", "tue", "wed", "thu", "fri"]),
        ("Sat, sun", ["sat", "sun"]),
        ("fri-mon", ["mon", "fri", "sat", "sun"]),
        ("wed", ["wed"]),
    ],
)
def test_weekdays_are_ranges_and_lists(text: str, days: list[str]) -> None:
    """Also over the end of the week."""
    assert days_of(text) == days


@pytest.mark.parametrize("text", ["", " , ", "monday", "mon-", "-", "mon-xyz", "0"])
def test_what_is_no_weekday_is_refused(text: str) -> None:
    """With the names that there are, or an example."""
    with pytest.raises(ValueError, match="there is no weekday"):
        days_of(text)


@given(st.text(max_size=6))
def test_a_time_of_day_is_hours_and_minutes(text: str) -> None:
    """Up to 24:00; anything else is refused."""
    valid = {f"{one // 60:02}:{one % 60:02}": one for one in range(DAY_MINUTES + 1)}
    try:
        assert minutes_of(text) == valid[text]
    except ValueError:
        assert text not in valid
