"""When alerts would have been open, as one line of a terminal. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

WIDTH = 60
BARS = "▁▂▃▄▅▆▇█"
NONE = "·"


def picture(spans: Sequence[tuple[datetime, datetime | None]], since: datetime, until: datetime) -> str:
    """A bar for each of `WIDTH` equal parts of the time: as high as the most alerts that were open together.

    A dot says that none was open. Alerts without an end are open still.
    """
    part = (until - since) / WIDTH
    if not part:
        return ""
    opened, closed = [0] * (WIDTH + 1), [0] * (WIDTH + 1)
    for begin, end in spans:
        first = min(max((begin - since) // part, 0), WIDTH - 1)
        last = WIDTH - 1 if end is None else min(max((end - since) // part, first), WIDTH - 1)
        opened[first] += 1
        closed[last + 1] += 1
    heights, now = [], 0
    for number in range(WIDTH):
        now += opened[number] - closed[number]
        heights.append(now)
    most = max(heights)
    bars = "".join(_bar(height, most) for height in heights)
    return f"{_at(since)} {bars} {_at(until)}, at most {most} at once"


def _bar(height: int, most: int) -> str:
    if not height:
        return NONE
    return BARS[-1] if most == 1 else BARS[(height - 1) * (len(BARS) - 1) // (most - 1)]


def _at(time: datetime) -> str:
    return f"{time.astimezone(UTC):%m-%d %H:%M}"
