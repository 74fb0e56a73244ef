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
    """More of some processes than one; `more` says how many more."""

    def __init__(self, stack: Stack, more: Mapping[str, int]) -> None:
        worker = shlex.split(read(PROJECT / "Procfile")["worker"])
        self._commands = {
            f"{name}-{number}": ["-m", *worker, f"--hostname=worker{number}@%h", "--autoscale=3,1"]
            if name == "worker"
            else ["-m", f"ingest.{name}"]
            for name, count in more.items()
            for number in range(2, 2 + count)
        }
        ports = {"METRICS_PORT": "0"} | {
            f"{name.upper()}_METRICS_PORT": "0" for name in ("bridge", "gateway", "control")
        }
        self._environment = {**os.environ, **process_environment(stack.env), **ports}
        self._layout = stack.layout
        self._running = {name: self._started(name) for name in self._commands}
        self.ended_alone = 0
        for name, process in self._running.items():
            fleet.wait_until(lambda pid=process.pid: fleet.catches(pid, signal.SIGTERM), 60, f"{name} to run")  # type: ignore[misc]

    def pid(self, name: str) -> int:
        """The process id of one, such as `bridge-2`."""
        return self._running[name].pid

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
    stack: Stack, settings: Mapping[str, str], *, more: Mapping[str, int], restart: Sequence[str] = ()
) -> Iterator[MoreProcesses]:
    """All processes, and some more, work with these settings; afterwards none runs, and the old ones hold.

    `more` says how many more there are, `restart` names programs of the stack that read the settings, too.
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
        others = MoreProcesses(stack, more)
        try:
            yield others
        finally:
            others.close()
    finally:
        _stop(stack)
        envfile.write(stack.layout.env, before)
        for name in restart:
            stack.restart(name)
        forget_other_memories(stack)


def _stop(stack: Stack) -> None:
    for name in (*PROCESSES, "beat"):
        stack.stop(name)
