"""Pauses between tries of something that does not work yet."""

from collections.abc import Iterator


def pauses(first: float, most: float) -> Iterator[float]:
    """Seconds to wait before each next try, without end: `first`, then twice as long each time, up to `most`.

    After a success, begin with new ones.
    """
    pause = first
    while True:
        yield pause
        pause = min(2 * pause, most)
