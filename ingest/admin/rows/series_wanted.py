"""What can be asked of a series, and what it is made of."""

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

Aggregate = Literal["avg", "min", "max", "sum", "count", "first", "last"]

# Buckets begin on whole multiples of their length from this Monday on.
ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)


class Wanted(NamedTuple):
    """One field from `begin` up to, and without, `end`, in buckets of one length."""

    key: str
    begin: datetime
    end: datetime
    bucket: timedelta
    aggregate: Aggregate


class Point(NamedTuple):
    """A bucket by its start, with how many values it has; one without any is left out."""

    time: datetime
    value: float | None
    values: int
