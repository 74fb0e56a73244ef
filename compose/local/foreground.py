"""The stack in the foreground: started, watched, and stopped again when the watcher ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from compose.local import preparation
from compose.local.console import Report
from compose.local.layout import PROJECT
from compose.local.stack import Stack

# A Ctrl-C reaches the live view as well; a signal to this process alone is passed on after this long.
_PASS_ON_SECONDS = 2
_END_SECONDS = 20

# INT too: a shell that starts this in the background has it ignored.
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(stack: Stack, arguments: Sequence[str], report: Report) -> int:
    """Starts the stack and the live view with its simulated fleet; returns when either is ended.

    A stack that this call started is stopped again; one that ran before is left running, with
    whatever was missing in it started. Returns the exit code of the live view, 0 if a signal ended it.
    Raises `StackError`.
    """
    before = stack.running()
    with _stop_signals():
        try:
            stack.up()
            code = _watch(stack, arguments)
        except KeyboardInterrupt:
            code = 0
        finally:
            # A second Ctrl-C must not leave half of it running.
            with _deaf():
                if before:
                    report.line("The stack was already running and keeps running: `make down` stops it")
                elif stack.running():
                    stack.down()
                    report.line(f"All stopped; the data stays in {stack.layout.base} until `make clean`")
    return code


def _watch(stack: Stack, arguments: Sequence[str]) -> int:
    env = {**preparation.process_environment(stack.env), "SLUICE_ENV_FILE": str(stack.layout.env)}
    child = subprocess.Popen([sys.executable, "-m", "compose.watch", *arguments], env=env, cwd=PROJECT)
    try:
        return child.wait()
    except KeyboardInterrupt:
        with _deaf():
            for patience, number in ((_PASS_ON_SECONDS, signal.SIGINT), (_END_SECONDS, signal.SIGKILL)):
                try:
                    child.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    child.send_signal(number)
            child.wait()
        return 0


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Each of them ends the block as Ctrl-C does; HUP comes from a terminal that closes."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _deaf() -> Iterator[None]:
    """No stop signal interrupts the block."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
