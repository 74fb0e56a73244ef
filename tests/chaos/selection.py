"""Which faults a run has: one of each kind, and two at once as the seed draws them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.clocks import Skewed
from tests.chaos.disks import DiskFull
from tests.chaos.faults import (
    Away,
    Flush,
    Full,
    Hang,
    Kill,
    KillChildren,
    Refuse,
    RestartBroker,
    SecondBridge,
    Stall,
)
from tests.chaos.lost_parts import FailOver, OldSnapshot, TopicMadeAgain
from tests.chaos.place import PROCESSES, SERVERS, Fault, Place
from tests.chaos.retention import RetentionGap
from tests.chaos.standby import PORTS, OfTwo

SKEWS = (10, -10, 3600, -3600)
PAIRS = 5


@dataclass(frozen=True)
class Pair:
    """Two faults at the same time; it lasts as long as the longer one."""

    one: Fault
    other: Fault

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.one.name} + {self.other.name}"

    @property
    def seconds(self) -> float:
        """As long as either."""
        return max(self.one.seconds, self.other.seconds)

    @property
    def touches(self) -> frozenset[str]:
        """What either does."""
        return self.one.touches | self.other.touches

    def begin(self, place: Place) -> None:
        """One right after the other."""
        self.one.begin(place)
        self.other.begin(place)

    def end(self, place: Place) -> None:
        """The second first: it may be what the first needs."""
        try:
            self.other.end(place)
        finally:
            self.one.end(place)


def single(seconds: float) -> list[Fault]:
    """All faults but those of two at once; those that last, last so long."""
    return [
        *(Kill(victim) for victim in (*PROCESSES, *SERVERS, "pgbouncer")),
        KillChildren(),
        *(Hang(victim, seconds) for victim in (*PROCESSES, *SERVERS)),
        Away("postgres", seconds),
        Away("kafka", seconds),
        Refuse(seconds),
        Stall("redis", seconds),
        Stall("postgres", seconds),
        Flush(),
        Full(seconds / 2),
        RestartBroker(),
        SecondBridge(seconds),
        *(OfTwo(Kill(victim)) for victim in PORTS),
        *(OfTwo(Hang(victim, seconds)) for victim in PORTS),
        OldSnapshot(),
        FailOver(),
        TopicMadeAgain(),
        RetentionGap(seconds),
        *(Skewed(victim, skew, seconds) for skew in SKEWS for victim in PROCESSES),
        DiskFull("postgres", seconds),
        DiskFull("kafka", seconds),
    ]


def drawn(seconds: float, seed: int) -> list[Fault]:
    """The faults of a run, in its order.

    Of each process the clock is wrong once; four seeds in a row have every skew of every process.
    """
    skews = {victim: SKEWS[(number + seed) % len(SKEWS)] for number, victim in enumerate(PROCESSES)}
    chosen = [
        fault
        for fault in single(seconds)
        if not isinstance(fault, Skewed) or fault.skew == skews[fault.victim]
    ]
    return shuffled([*chosen, *pairs(single(seconds), seed)], seed)


def pairs(faults: Sequence[Fault], seed: int, count: int = PAIRS) -> list[Fault]:
    """So many different pairs, as the seed draws them: two kinds first, then a fault of each.

    Two faults go together unless one breaks what the other touches.
    """
    draw = random.Random(seed)
    kinds: dict[type[Fault], list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(type(fault), []).append(fault)
    found: dict[str, Fault] = {}
    while len(found) < count:
        one, other = (draw.choice(kinds[kind]) for kind in draw.choices(list(kinds), k=2))
        if one.touches.isdisjoint(other.touches):
            pair = paired(one, other)
            found[pair.name] = pair
    return list(found.values())


def paired(one: Fault, other: Fault) -> Pair:
    """The two at once: a process first, so that the server that it needs is there again when it ends."""
    return Pair(*sorted((one, other), key=lambda fault: not fault.touches.isdisjoint(SERVERS)))


def named(names: Sequence[str], seconds: float) -> list[Fault]:
    """The faults of these names; `ONE + OTHER` is a pair. Raises `KeyError` for a name that none has."""
    known: Mapping[str, Fault] = {fault.name: fault for fault in single(seconds)}
    return [
        paired(*(known[part] for part in name.split(" + "))) if " + " in name else known[name]
        for name in names
    ]


def some() -> list[Fault]:
    """A short selection: each promise is at stake in one of them."""
    return [
        Kill("worker"),
        Kill("gateway"),
        Kill("redis"),
        Flush(),
        Away("postgres", 3),
        Stall("redis", 3),
    ]


def shuffled(chosen: Sequence[Fault], seed: int) -> list[Fault]:
    """In an order of chance, the same for the same seed."""
    return random.Random(seed).sample(chosen, len(chosen))
