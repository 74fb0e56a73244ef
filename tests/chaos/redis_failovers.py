"""How a Redis master ceases to be one; a bridge and a worker more than usual go on meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos import options
from tests.chaos.groups import GroupsPlace
from tests.integration.redis_group import Machine, RedisGroup


@dataclass(frozen=True)
class Failover:
    """The master's machine is struck, another becomes the master, and later the first is mended."""

    name: str
    strike: Callable[[RedisGroup, Machine], object]
    mend: Callable[[Machine], object] = lambda _: None
    seconds: float = 0
    """How long after the election it is mended."""
    struck: list[Machine] = field(default_factory=list)

    def begin(self, place: GroupsPlace) -> None:
        """Returns when there is another master."""
        old = place.sentinels.await_master()
        self.struck.append(old)
        self.strike(place.sentinels, old)
        place.sentinels.await_master(other_than=old)

    def end(self) -> None:
        """The old master is there again, as what it was when it was struck."""
        while self.struck:
            self.mend(self.struck.pop())


KILL = Failover("kill the master's machine", lambda _, old: old.kill(), Machine.start, seconds=2)
HANG = Failover("hang the master's machine", lambda _, old: old.hang(), Machine.resume, seconds=8)
# Clients may still hold connections to it, on which they have waited for less than their timeout.
SHORT_HANG = Failover(
    "hang the master's machine until another is elected", lambda _, old: old.hang(), Machine.resume
)
ORDERED = Failover("SENTINEL FAILOVER", lambda group, _: group.fail_over())
CUT_OFF = Failover("cut the master's machine off", lambda _, old: old.cut_off(), Machine.reconnect, seconds=8)
KINDS = (KILL, SHORT_HANG, ORDERED, HANG, CUT_OFF)
# For `make test`.
FEW = (KILL, SHORT_HANG)


def chosen(count: int) -> list[Failover]:
    """So many failovers, in turn of each kind; 0 means a few."""
    return options.in_turn(KINDS, count) or list(FEW)
