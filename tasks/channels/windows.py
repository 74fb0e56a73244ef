"""Windows in which channels are silent: when one is open. Pure: no clock, no I/O but the files of time zones.

A recurring window is meant by the wall clock of its zone. On a day on which the clock is set it opens when
the clock first shows its start or later, and closes after the clock last showed what is before its end: an
hour that comes twice is quiet both times, and a window in an hour that the clock leaves out does not open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
# Windows that meet count as one, but not for longer.
MOST_IN_A_ROW = 8


class Span(NamedTuple):
    """From `start` to before `end`, both in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Once:
    """One span."""

    start: datetime
    end: datetime

    def spans(self, since: datetime, until: datetime) -> Iterator[Span]:
        """The span, if any of it lies after `since` and it begins by `until`."""
        if self.end > since and self.start <= until:
            yield Span(self.start.astimezone(UTC), self.end.astimezone(UTC))


@dataclass(frozen=True, slots=True)
class Recurring:
    """On the weekdays (0 is Monday), from `start` to `end`: minutes after midnight.

    An end that is not after the start is on the next day.
    """

    zone: ZoneInfo
    weekdays: frozenset[int]
    start: int
    end: int

    def spans(self, since: datetime, until: datetime) -> Iterator[Span]:
        """Those of which any lies after `since` and that begin by `until`, in their order."""
        # Two days back: some zones have left out a whole date.
        day = since.astimezone(self.zone).date() - timedelta(days=2)
        last = until.astimezone(self.zone).date()
        while day <= last:
            if day.weekday() in self.weekdays:
                span = self._on(day)
                if span.start < span.end and span.end > since and span.start <= until:
                    yield span
            day += timedelta(days=1)

    def _on(self, day: date) -> Span:
        overnight = 0 if self.end > self.start else DAY_MINUTES
        midnight = datetime.combine(day, time.min)
        return Span(
            instant(midnight + timedelta(minutes=self.start), self.zone, last=False),
            instant(midnight + timedelta(minutes=self.end + overnight), self.zone, last=True),
        )


Window = Once | Recurring


def open_until(window: Window, at: datetime) -> datetime | None:
    """When the window that is open at a time closes; None if it is not open. Adjoining ones continue."""
    end: datetime | None = None
    for _ in range(MOST_IN_A_ROW):
        ends = [span.end for span in window.spans(end or at, end or at)]
        if not ends:
            break
        end = max(ends)
    return end


def instant(local: datetime, zone: ZoneInfo, *, last: bool) -> datetime:
    """When the zone's clock first shows a time or a later one, in UTC; or `last` has shown an earlier one.

    They differ where the clock is set back.
    """
    early, late = sorted(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early == late:
        return early
    if _shown(late, zone) == local:
        # A time before the first of those that come twice was shown once.
        return late if last and _shown(late - timedelta.resolution, zone) < local else early
    # The clock is set between the two.
    while late - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(late - early) // timedelta(seconds=2))
        early, late = (early, middle) if _shown(middle, zone) >= local else (middle, late)
    return late


def _shown(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def minutes_of(text: str) -> int:
    """Minutes after midnight of `HH:MM`, up to 24:00. Raises `ValueError` for anything else."""
    hours, _, minutes = text.partition(":")
    if not (
        len(text) == 5 and text.isascii() and hours.isdigit() and minutes.isdigit() and int(minutes) < 60
    ):
        raise ValueError(f"{text} is not a time of day such as 22:00")
    total = int(hours) * 60 + int(minutes)
    if total > DAY_MINUTES:
        raise ValueError(f"{text} is not a time of day such as 22:00")
    return total


def days_of(text: str) -> list[str]:
    """Weekdays of `mon-fri` or `sat,sun`, in the week's order. Raises `ValueError` with a sentence."""
    chosen: set[int] = set()
    for part in filter(None, (one.strip().lower() for one in text.split(","))):
        first, dash, last = part.partition("-")
        for name in (first, last) if dash else (first,):
            if name not in WEEKDAYS:
                raise ValueError(f"there is no weekday {name}; they are {', '.join(WEEKDAYS)}")
        begin = WEEKDAYS.index(first)
        length = (WEEKDAYS.index(last) - begin) % 7 if dash else 0
        chosen |= {(begin + step) % 7 for step in range(length + 1)}
    if not chosen:
        raise ValueError("there is no weekday; give some, such as mon-fri or sat,sun")
    return [WEEKDAYS[one] for one in sorted(chosen)]
