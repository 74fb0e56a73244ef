"""Two components lost at about the same time, each of which the redundancy survives."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos.groups import GroupsPlace
from tests.chaos.postgres_failovers import NOTICED_SECONDS
from tests.integration import fleet, redis_group
from tests.integration.machines import Machine
from tests.integration.second_process import readiness

# Longer than any other needs to take over.
AWAY_SECONDS = 20.0
STANDS_BY = "on standby"
HOW: dict[str, tuple[Callable[[Machine], object], Callable[[Machine], object]]] = {
    "killed": (Machine.kill, Machine.start),
    "hung": (Machine.hang, Machine.resume),
    "cut off": (Machine.cut_off, Machine.reconnect),
}


@dataclass(frozen=True)
class Server:
    """The machine that leads, of one of the three servers."""

    name: str
    how: str
    struck: list[Machine] = field(default_factory=list)

    def strike(self, place: GroupsPlace) -> None:
        """It is lost."""
        machine = place.leading(self.name)
        self.struck.append(machine)
        HOW[self.how][0](machine)

    def go_on(self, place: GroupsPlace) -> None:
        """Returns when another has taken over; for PostgreSQL the test is the operator, who ends it first."""
        old = self.struck[-1]
        if self.name == "redis":
            assert isinstance(old, redis_group.Machine)
            place.sentinels.await_master(other_than=old)
        elif self.name == "postgres":
            time.sleep(NOTICED_SECONDS)
            old.kill()
            place.pair.promote()

    def mend(self, place: GroupsPlace) -> None:
        """It is back, as one that follows."""
        while self.struck:
            machine = self.struck.pop()
            if self.name == "postgres":
                machine.reconnect()
                place.pair.join()
            else:
                HOW[self.how][1](machine)


@dataclass(frozen=True)
class Process:
    """A process; of those of which one acts and the other stands by, the one that acts."""

    name: str
    how: str
    stopped: list[int] = field(default_factory=list)

    def strike(self, place: GroupsPlace) -> None:
        """SIGKILL, or SIGSTOP for it and its children."""
        pid = self._pid(place)
        if self.how == "killed":
            fleet.kill(pid)
            return
        for one in _family(pid):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)
                self.stopped.append(one)

    def go_on(self, place: GroupsPlace) -> None:
        """The others go on by themselves."""

    def mend(self, place: GroupsPlace) -> None:
        """The supervisor starts a killed one again; one that hung goes on, its children first."""
        while self.stopped:
            with suppress(ProcessLookupError):
                os.kill(self.stopped.pop(), signal.SIGCONT)
        place.others.mind()

    def _pid(self, place: GroupsPlace) -> int:
        if self.name in {"gateway", "control"}:
            port = place.stack.env[f"{self.name.upper()}_METRICS_PORT"]
            if STANDS_BY in readiness(port):
                return place.others.pid(f"{self.name}-2")
        return place.stack.pid(self.name)


@dataclass(frozen=True)
class Pair:
    """One is struck right after the other."""

    name: str
    one: Server | Process
    other: Server | Process

    def begin(self, place: GroupsPlace) -> None:
        """Returns when what can take over has done so."""
        self.one.strike(place)
        self.other.strike(place)
        self.one.go_on(place)
        self.other.go_on(place)

    def end(self, place: GroupsPlace) -> None:
        """Both are mended, whatever fails."""
        try:
            self.one.mend(place)
        finally:
            self.other.mend(place)


def _family(pid: int) -> Iterator[int]:
    """A process and all that it has started, itself first, so that it cannot replace them."""
    yield pid
    with suppress(FileNotFoundError):
        for child in fleet.children(pid):
            yield from _family(child)


PAIRS = (
    Pair("Redis's master killed, a bridge hung", Process("bridge", "hung"), Server("redis", "killed")),
    Pair(
        "Kafka's leader cut off, the acting control process killed",
        Server("kafka", "cut off"),
        Process("control", "killed"),
    ),
    Pair(
        "PostgreSQL's primary killed, a worker killed",
        Process("worker", "killed"),
        Server("postgres", "killed"),
    ),
    Pair("Redis's master and Kafka's leader killed", Server("kafka", "killed"), Server("redis", "killed")),
    Pair(
        "PostgreSQL's primary hung, the acting control process hung",
        Process("control", "hung"),
        Server("postgres", "hung"),
    ),
    Pair(
        "Redis's master hung, the acting gateway killed",
        Process("gateway", "killed"),
        Server("redis", "hung"),
    ),
    Pair(
        "Redis's master killed, PostgreSQL's primary hung",
        Server("redis", "killed"),
        Server("postgres", "hung"),
    ),
    Pair("Kafka's leader killed, a worker hung", Process("worker", "hung"), Server("kafka", "killed")),
    Pair(
        "PostgreSQL's primary cut off, the acting gateway hung",
        Process("gateway", "hung"),
        Server("postgres", "cut off"),
    ),
    Pair(
        "Kafka's leader cut off, PostgreSQL's primary killed",
        Server("kafka", "cut off"),
        Server("postgres", "killed"),
    ),
)
