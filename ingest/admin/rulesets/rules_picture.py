"""When alerts would have been open, as one line of a terminal. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

WIDTH = 60
BARS = "▁▂▃▄▅▆▇█"
NONE = "·"


Span = tuple[datetime, datetime | None]
"""An alert's begin, and its end if it has ended."""


def picture(spans: Sequence[Span], since: datetime, until: datetime) -> str:
    """A bar for each of `WIDTH` equal parts of the time: as high as the most alerts that were open together.

    A dot says that none was open. Alerts without an end are open still.
    """
    found = heights(spans, since, until, WIDTH)
    if not found:
        return ""
    most = max(found)
    bars = "".join(_bar(height, most) for height in found)
    return f"{_at(since)} {bars} {_at(until)}, at most {most} at once"


def heights(spans: Sequence[Span], since: datetime, until: datetime, parts: int) -> list[int]:
    """The most alerts that were open together, for each of `parts` equal parts of the time."""
    part = (until - since) / parts
    if not part:
        return []
    opened, closed = [0] * (parts + 1), [0] * (parts + 1)
    for begin, end in spans:
        first = min(max((begin - since) // part, 0), parts - 1)
        last = parts - 1 if end is None else min(max((end - since) // part, first), parts - 1)
        opened[first] += 1
        closed[last + 1] += 1
    found, now = [], 0
    for number in range(parts):
        now += opened[number] - closed[number]
        found.append(now)
    return found


def _bar(height: int, most: int) -> str:
    if not height:
        return NONE
    return BARS[-1] if most == 1 else BARS[(height - 1) * (len(BARS) - 1) // (most - 1)]


def _at(time: datetime) -> str:
    return f"{time.astimezone(UTC):%m-%d %H:%M}"
