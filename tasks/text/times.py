"""Times as people read and write them; a span back from now is `7d`."""

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhdw])")


def in_utc(time: datetime) -> str:
    """The time to the second, such as `2026-05-01 12:00:00 UTC`."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso_of_ms(timestamp_ms: int) -> str | None:
    """A record's time in ISO 8601; None if it is not a time: a producer may have written any number."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def parse_span(text: str) -> timedelta:
    """A length of time such as `90m`. Raises `ValueError`, as `parse_moment` does."""
    if not (found := _SPAN.fullmatch(text)):
        raise ValueError(f"must be a span such as 45s, 90m, 12h, 7d, 2w; got {text}")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_moment(text: str, now: datetime) -> datetime:
    """The beginning of a span that ends at `now`, or the time; without an offset it is UTC.

    Raises `ValueError`; its text is the end of a sentence that says what was expected.
    """
    if _SPAN.fullmatch(text):
        try:
            return now - parse_span(text)
        except OverflowError:
            raise ValueError(f"goes back before the first possible date: {text}") from None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"must be a span such as 45s, 90m, 12h, 7d, 2w, or a time such as 2026-05-01T10:00Z; got {text}"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
