"""Times as devices write them, and whether a clock is plausible. Pure; arrival is given.

Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, as declared. With `epoch` the unit
is whichever puts the time into the window around arrival; windows of four units never overlap.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic_core import PydanticCustomError

from tasks.domain.columns import parse_time
from tasks.domain.payload import Refused
from tasks.text.wording import describe

TimeForm = Literal["iso", "s", "ms", "us", "ns", "epoch"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Microseconds of each unit.
_UNITS: dict[str, Decimal] = {
    "s": Decimal(1_000_000),
    "ms": Decimal(1_000),
    "us": Decimal(1),
    "ns": Decimal("0.001"),
}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,12})?")
_LOCAL = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?", re.ASCII)
# The same instant in two units is a factor of a thousand apart, and any window within these bounds is not.
_WIDEST = timedelta(days=25 * 365)


@dataclass(frozen=True, slots=True)
class Clock:
    """The times that are plausible, and what happens to others.

    A time more than `back` before arrival, or more than `ahead` after it, is refused (`refuse`), or the
    arrival counts and the device's own time is kept as `device_time` in the extra column (`arrival`).
    Raises `TypeError` for a window that is too wide to distinguish the units of `epoch`.
    """

    back: timedelta = timedelta(days=3653)
    ahead: timedelta = timedelta(days=1)
    outside: Literal["refuse", "arrival"] = "refuse"

    def __post_init__(self) -> None:
        if not timedelta(0) <= self.back <= _WIDEST or not timedelta(0) <= self.ahead <= _WIDEST:
            raise TypeError("a clock's window goes at most 25 years back and ahead")

    def holds(self, time: datetime, arrival: datetime) -> bool:
        """Whether the time is plausible for a message that arrived then."""
        return -self.back <= time - arrival <= self.ahead


@dataclass(frozen=True, slots=True)
class When:
    """A place of the time in a message, its forms, and the zone of a time without an offset.

    Raises `TypeError` for an unknown form or zone.
    """

    path: str
    forms: tuple[TimeForm, ...] = ("iso",)
    zone: str = ""
    _zone: tzinfo | None = field(default=None, init=False, repr=False, compare=False)

    def __init__(self, path: str, *forms: TimeForm, zone: str = "") -> None:
        set_ = object.__setattr__
        set_(self, "path", path)
        set_(self, "forms", forms or ("iso",))
        set_(self, "zone", zone)
        if unknown := set(self.forms) - {"iso", "epoch", *_UNITS}:
            raise TypeError(f"{sorted(unknown)} is not a form of time: iso, s, ms, us, ns, epoch")
        if len(self.forms) > 1 + ("iso" in self.forms):
            raise TypeError("a number has one unit: declare one of s, ms, us, ns, epoch")
        try:
            set_(self, "_zone", ZoneInfo(zone) if zone else None)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise TypeError(f"{zone!r} is not a time zone, as in Europe/Berlin") from error

    def read(self, value: Any, arrival: datetime, clock: Clock) -> datetime:
        """The time in UTC, also an implausible one. Raises `Refused` (`InvalidTime`)."""
        number = self._number(value)
        if number is not None:
            return self._from_number(number, value, arrival, clock)
        if type(value) is str and "iso" in self.forms:
            return self._from_text(value)
        raise self._refusal(value)

    def _number(self, value: Any) -> Decimal | None:
        if self.forms == ("iso",) or isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            # Seconds since 1970 have ten digits, nanoseconds nineteen: what is longer is not a time.
            return Decimal(repr(value)) if -1e20 < value < 1e20 else None
        if type(value) is str and _NUMBER.fullmatch(value.strip()):
            return Decimal(value.strip())
        return None

    def _from_number(self, number: Decimal, value: Any, arrival: datetime, clock: Clock) -> datetime:
        unit = next(form for form in self.forms if form != "iso")
        times = [_at(number * _UNITS[one]) for one in (_UNITS if unit == "epoch" else (unit,))]
        found = [time for time in times if time is not None]
        if not found:
            raise self._refusal(value)
        return next((time for time in found if clock.holds(time, arrival)), found[0])

    def _from_text(self, value: str) -> datetime:
        try:
            if self._zone is not None and _LOCAL.fullmatch(value):
                return parse_time(value + "Z").replace(tzinfo=self._zone).astimezone(UTC)
            return parse_time(value)
        except OverflowError:
            raise self._refusal(value) from None
        except PydanticCustomError as error:
            raise Refused("InvalidTime", f"`{self.path}` {error.message()}") from None

    def _refusal(self, value: Any) -> Refused:
        iso = ["an ISO 8601 time"] if "iso" in self.forms else []
        units = [f"{_UNIT_NAMES.get(form, form)} since 1970" for form in self.forms if form != "iso"]
        expected = " or ".join(
            [*iso, *(unit.replace("epoch", "a number of s, ms, us or ns") for unit in units)]
        )
        return Refused("InvalidTime", f"`{self.path}` must be {expected}, got {describe(value)}")


def implausible(time: datetime, arrival: datetime, path: str) -> Refused:
    """The refusal of a time outside the window."""
    which = "before" if time < arrival else "after"
    return Refused(
        "InvalidTime",
        f"`{path}` is {time.isoformat().replace('+00:00', 'Z')}, too long {which} the message's arrival"
        f" ({arrival.isoformat(timespec='seconds').replace('+00:00', 'Z')}): the device's clock is wrong",
    )


def _at(microseconds: Decimal) -> datetime | None:
    try:
        return EPOCH + timedelta(microseconds=int(microseconds))
    except OverflowError:
        return None
