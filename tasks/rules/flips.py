"""How often an alert changes: the times of its last changes, and when they are too many. Pure."""

from typing import NamedTuple


class Limit(NamedTuple):
    """An alert flaps if it has changed `changes` times less than `within` µs before it would begin again."""

    changes: int
    within: int


class Flips(NamedTuple):
    """The times (µs) of the last changes of a rule's alerts, in the order in which they came.

    While the alert is FLAPPING, only the time since when the rule is violated, or is not (`over`).
    """

    times: tuple[int, ...]
    over: bool = False

    @property
    def last(self) -> int:
        """When the latest change was."""
        return self.times[-1]


def noted(flips: Flips | None, limit: Limit | None, at: int) -> Flips | None:
    """With one more change; no more of them are kept than the limit counts, and none without a limit."""
    if limit is None:
        return None
    known = () if flips is None else flips.times
    return Flips((*known, at)[-limit.changes :])


def too_many(flips: Flips | None, limit: Limit | None, at: int) -> bool:
    """Whether an alert that would begin now has changed too often."""
    if limit is None or flips is None or len(flips.times) < limit.changes:
        return False
    return at - flips.times[-limit.changes] < limit.within
