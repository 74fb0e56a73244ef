"""Sluice's processes on servers of a test's own, with more bridges and workers than one."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from compose.local import envfile
from compose.local.preparation import process_environment
from compose.local.procfile import read
from compose.local.stack import Stack
from tests.chaos.place import PROJECT
from tests.conftest import PROCESSES, forget_other_memories
from tests.integration import fleet


class MoreProcesses:
    """A second bridge, and more workers than one."""

    def __init__(self, stack: Stack, workers: int) -> None:
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


@contextmanager
def moved(
    stack: Stack, settings: Mapping[str, str], *, workers: int, restart: Sequence[str] = ()
) -> Iterator[MoreProcesses]:
    """All processes, and some more, work with these settings; afterwards none runs, and the old ones hold.

    `workers` is how many more there are, `restart` names programs of the stack that read the settings, too.
    """
    before = stack.env
    # To the stack these are its own servers.
    marks = [before[envfile.OWN], *map(envfile.fingerprint, settings.values())]
    _stop(stack)
    envfile.write(stack.layout.env, {**before, **settings, envfile.OWN: ",".join(marks)})
    try:
        for name in restart:
            stack.restart(name)
        stack.up((*PROCESSES, "beat"), prepare=False)
        more = MoreProcesses(stack, workers)
        try:
            yield more
        finally:
            more.close()
    finally:
        _stop(stack)
        envfile.write(stack.layout.env, before)
        for name in restart:
            stack.restart(name)
        forget_other_memories(stack)


def _stop(stack: Stack) -> None:
    for name in (*PROCESSES, "beat"):
        stack.stop(name)
