"""The outcome of one message: its readings, and one refusal for all of them that are wrong. Pure."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Generic, NamedTuple, Protocol, TypeVar

from tasks.domain.payload import REASON_LENGTH, Limits, Refused
from tasks.text.wording import shorten

# Rows may be larger than the message that they come from, because they share what stands in it once.
MOST_TIMES_LARGER = 8


class HasLine(Protocol):
    """A reading with its row."""

    @property
    def copy_line(self) -> bytes:
        """The row in COPY's text format."""


ReadingT = TypeVar("ReadingT", bound=HasLine)


class Wrong(NamedTuple):
    """A reading that cannot become a row, by its index in the message."""

    number: int
    error_type: str
    reason: str


class Outcome(NamedTuple, Generic[ReadingT]):
    """The readings of a message by their index in it, and the refusal of the others, if there are any.

    `wrong` has each of those by its index. A message with neither holds no reading, and is ignored; `online`
    is whether it says that its device is there.
    """

    readings: list[tuple[int, ReadingT]]
    refused: Refused | None = None
    wrong: tuple[tuple[int, Refused], ...] = ()
    total: int = 1  # with parts that hold no reading
    online: bool | None = None

    @property
    def is_ignored(self) -> bool:
        """Whether the message holds no reading and nothing that should be one."""
        return not self.readings and self.refused is None


def outcome(found: Sequence[tuple[int, ReadingT | Refused]], total: int, limits: Limits) -> Outcome[ReadingT]:
    """The outcome of a message with `total` parts, some of them readings, each read or refused.

    Raises `Refused` (`TooLarge`).
    """
    readings = [(index, one) for index, one in found if not isinstance(one, Refused)]
    most = MOST_TIMES_LARGER * limits.max_bytes
    if sum(len(one.copy_line) for _, one in readings) > most:
        raise Refused("TooLarge", f"the rows of the payload's readings have more than {most} bytes")
    wrong = tuple((index, one) for index, one in found if isinstance(one, Refused))
    if not wrong:
        return Outcome(readings, total=total)
    _, reason = summary([Wrong(index, one.error_type, one.reason) for index, one in wrong], total)
    return Outcome(readings, Refused(wrong[0][1].error_type, reason), wrong, total)


def summary(wrong: Sequence[Wrong], total: int) -> tuple[str, str]:
    """One type and reason for all wrong readings of a message of `total` parts, each named by its index."""
    first = wrong[0]
    if total == 1:
        return first.error_type, first.reason
    indexes = ", ".join(str(one.number) for one in wrong[:10]) + (", …" if len(wrong) > 10 else "")
    reasons = "; ".join(f"[{one.number}] {one.reason}" for one in wrong)
    reason = f"{len(wrong)} of {total} readings are wrong, by index {indexes}: {reasons}"
    return first.error_type, shorten(reason, REASON_LENGTH)


def fingerprint(mark: bytes) -> int:
    """A number below 2^63 for these bytes, the same in every process."""
    return int.from_bytes(blake2b(mark, digest_size=8).digest()) >> 1
