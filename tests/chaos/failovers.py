"""How a Redis master ceases to be one; a bridge and a worker more than usual go on meanwhile."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import redis

from compose.local.preparation import process_environment
from compose.local.procfile import read
from compose.local.stack import Stack
from tests.chaos.place import PROJECT, Place
from tests.integration import fleet
from tests.integration.redis_group import Machine, RedisGroup


@dataclass
class GroupPlace(Place):
    """A place whose Redis is a group of machines with Sentinels."""

    group: RedisGroup = field(kw_only=True)
    others: "Seconds" = field(kw_only=True)

    def redis(self) -> redis.Redis:
        """A client of the master."""
        return self.group.client(self.group.await_master())


@dataclass(frozen=True)
class Failover:
    """The master's machine is struck, another becomes the master, and later the first is mended."""

    name: str
    strike: Callable[[RedisGroup, Machine], object]
    mend: Callable[[Machine], object] = lambda _: None
    seconds: float = 0
    """How long after the election it is mended."""
    touches: frozenset[str] = frozenset({"redis"})
    struck: list[Machine] = field(default_factory=list)

    def begin(self, place: Place) -> None:
        """Returns when there is another master."""
        assert isinstance(place, GroupPlace)
        old = place.group.await_master()
        self.struck.append(old)
        self.strike(place.group, old)
        place.group.await_master(other_than=old)

    def end(self, place: Place) -> None:  # noqa: ARG002
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
    return [KINDS[number % len(KINDS)] for number in range(count)] if count else list(FEW)


class Seconds:
    """The second bridge and the second worker, or more workers."""

    def __init__(self, stack: Stack, workers: int = 1) -> None:
        worker = shlex.split(read(PROJECT / "Procfile")["worker"])
        self._commands = {"bridge-2": ["-m", "ingest.bridge"]} | {
            f"worker-{number}": ["-m", *worker, f"--hostname=worker{number}@%h", "--autoscale=3,1"]
            for number in range(2, 2 + workers)
        }
        ports = {"BRIDGE_METRICS_PORT": "0", "METRICS_PORT": "0"}
        self._environment = {**os.environ, **process_environment(stack.env), **ports}
        self._layout = stack.layout
        self._running = {name: self._started(name) for name in self._commands}
        self.ended_alone = 0
        bridge = self._running["bridge-2"]
        fleet.wait_until(lambda: fleet.catches(bridge.pid, signal.SIGTERM), 60, "the second bridge to run")

    def mind(self) -> None:
        """Starts again whatever has ended by itself, and counts it."""
        for name, process in self._running.items():
            if process.poll() is not None:
                self.ended_alone += 1
                self._running[name] = self._started(name)

    def close(self) -> None:
        """Ends them, gently at first."""
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + 60
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)

    def _started(self, name: str) -> subprocess.Popen[bytes]:
        with self._layout.log(name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *self._commands[name]],
                cwd=PROJECT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
