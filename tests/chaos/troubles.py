"""What troubles a machine that goes on serving: its network, its clock, its disk."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.integration.machines import LATE_SECONDS, LOST_SHARE, Machine

SECONDS = 20.0
WRONG_SECONDS = 5


@dataclass(frozen=True)
class Trouble:
    """It begins, and is over after a while; nobody is asked to take over."""

    name: str
    begin: Callable[[Machine], object]
    end: Callable[[Machine], object]


def _clock(seconds: int) -> Trouble:
    set_wrong = partial(Machine.set_clock, seconds=seconds)
    return Trouble(f"clock {seconds:+d} s", set_wrong, partial(Machine.set_clock, seconds=0))


LOSS = Trouble(f"{LOST_SHARE:.0%} of the packets lost", Machine.lose_packets, Machine.reconnect)
DELAY = Trouble(f"answers {LATE_SECONDS * 1000:.0f} ms later", Machine.answer_late, Machine.reconnect)
DISK = Trouble("disk full", Machine.fill_disk, Machine.make_room)
KINDS = (LOSS, DELAY, _clock(WRONG_SECONDS), DISK, _clock(-WRONG_SECONDS))
