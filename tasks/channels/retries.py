"""When a delivery that failed is tried again, and for how long its channel rests. Pure, but for chance."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_SECONDS, MOST_SECONDS = 2.0, 3600.0
# A channel that fails this often in a row is down: its other deliveries need not find out one by one.
DOWN_AFTER = 3
MOST_REST_SECONDS = 300.0
# What a server may ask for by Retry-After.
LEAST_ASKED_SECONDS, MOST_ASKED_SECONDS = 1.0, 3600.0


def retry_seconds(attempts: int) -> float:
    """The pause after this many attempts: doubling, with a quarter of chance, an hour at most."""
    return _spread(min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempts - 1, 30)))


def rest_seconds(failures: int) -> float:
    """How long a channel rests after this many failures in a row: not at all for the first ones."""
    if failures < DOWN_AFTER:
        return 0.0
    return _spread(min(MOST_REST_SECONDS, 2.0 ** min(failures - DOWN_AFTER, 30)))


def asked_seconds(retry_after: str | None, now: datetime) -> float | None:
    """The pause of a Retry-After header, seconds or a date, within the bounds; None where it has none."""
    text = (retry_after or "").strip()[:64]
    if text.isascii() and text.isdigit():
        return min(MOST_ASKED_SECONDS, max(LEAST_ASKED_SECONDS, float(text)))
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(MOST_ASKED_SECONDS, max(LEAST_ASKED_SECONDS, (until - now).total_seconds()))


def _spread(seconds: float) -> float:
    return seconds * random.uniform(0.75, 1.0)  # noqa: S311 - no secret, only no crowd
