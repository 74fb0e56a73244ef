"""The upgrade itself: the steps of docs/operate.md, in its order, while devices publish."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from uuid import uuid4

from rich.console import Console

from compose.local import preparation
from compose.local.stack import Stack
from tests.chaos.judge import Judge, Verdict
from tests.chaos.load import Listener, Load
from tests.chaos.place import Place
from tests.upgrade.processes import Processes

# For so long each step's mixture of revisions works before the next one.
MIXED_SECONDS = 10.0
COMMAND_SECONDS = 300
ORDER = ("bridge", "bridge 2", "worker", "worker 2", "beat", "control", "gateway")


@dataclass(frozen=True)
class Step:
    """What a step cost: how long it took, and the longest time in which not every device got a row."""

    name: str
    seconds: float
    worst_latency_seconds: float
    pause_seconds: float


@dataclass(frozen=True)
class Outcome:
    """The steps, what became of the load, and the processes that ended by themselves, by name."""

    steps: list[Step]
    verdict: Verdict
    whole: Verdict
    ended: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return self.verdict.passed and self.whole.passed


def upgrade(project: Path, old: Path, seed: int, console: Console) -> Outcome:
    """Sets servers up as the old checkout does, starts its processes, and replaces them under load."""
    stack = Stack(project / ".local" / "upgrade", free_ports=True, tied=True)
    stack.clean()
    try:
        with _commands_of(old):
            stack.up(())
        processes = Processes(stack)
        try:
            processes.begin(old)
            return _under_load(stack, processes, project, seed, console)
        finally:
            processes.close()
    finally:
        stack.down()


def _under_load(stack: Stack, processes: Processes, project: Path, seed: int, console: Console) -> Outcome:
    place = Place(stack, {}, stack.env["REDIS_URL"], stack.env["DATABASE_DIRECT_URL"])
    load = Load(stack, f"upgrade-{uuid4().hex[:6]}", seed)
    listeners = {user: Listener(stack, user) for user in load.users}
    judge = Judge(place, load, listeners)
    load.start()
    try:
        load.await_tick(10)
        judge.begin()
        began = time.monotonic()
        steps = list(_steps(stack, processes, project, judge, console))
        verdict, whole = (
            Verdict("upgrade", __name__, time.monotonic() - began),
            Verdict("all of them", __name__),
        )
        judge.recovery(verdict, time.monotonic())
        judge.judge(verdict)
        judge.judge_all(whole)
        return Outcome(steps, verdict, whole, dict(processes.ended))
    finally:
        load.stop()
        judge.come_to_rest()
        judge.close()
        for listener in listeners.values():
            listener.close()


def _steps(
    stack: Stack, processes: Processes, project: Path, judge: Judge, console: Console
) -> Iterator[Step]:
    works: dict[str, Callable[[], object]] = {"`sluice migrate`": lambda: preparation.migrate(stack.env)}
    works |= {name: lambda name=name: processes.replace(name, project) for name in ORDER}  # type: ignore[misc]
    for name, work in works.items():
        began = time.monotonic()
        work()
        seconds = time.monotonic() - began
        time.sleep(MIXED_SECONDS)
        step = Step(name, seconds, judge.watch.worst(), judge.watch.longest_pause())
        console.print(f"{step.name}: {step.seconds:.1f} s, worst latency {step.worst_latency_seconds:.1f} s")
        yield step


@contextmanager
def _commands_of(folder: Path) -> Iterator[None]:
    """While it lasts the stack is prepared by the commands of this checkout."""
    usual = preparation.run_sluice

    def run(arguments: Sequence[str], env: Mapping[str, str], stdin: str) -> CompletedProcess[str]:
        return subprocess.run(
            [str(folder / ".venv/bin/python"), "-m", "ingest.cli", *arguments],
            env=dict(env),
            cwd=folder,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )

    preparation.run_sluice = run
    try:
        yield
    finally:
        preparation.run_sluice = usual
