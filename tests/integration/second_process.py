"""A second process of a kind, beside the stack's own, as on another machine."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tests.conftest import PROJECT
from tests.integration.restarted import end

STOP_SECONDS = 20
ANSWER_SECONDS = 5


@dataclass(frozen=True)
class Second:
    """The process, its settings that are not the stack's, and the file that has its output."""

    process: subprocess.Popen[bytes]
    env: dict[str, str]
    port: int
    log: Path

    def ready(self) -> str:
        """What its `/readyz` says, also where it is not ready; empty while it does not answer."""
        return readiness(self.port)


def readiness(port: int | str) -> str:
    """What the process with this port says about itself; empty while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=ANSWER_SECONDS) as answer:
            return str(answer.read().decode()).strip()
    except urllib.error.HTTPError as error:
        with suppress(HTTPException, OSError):  # it may end while it answers
            return str(error.read().decode()).strip()
    except (HTTPException, OSError):
        pass
    return ""


@contextmanager
def second(stack: Stack, command: Sequence[str], port: str, log: Path) -> Iterator[Second]:
    """Runs a program of Sluice's against the stack; `port` is the setting of its health's port.

    At the end it is continued if it hangs, gets SIGTERM, and SIGKILL after 20 s.
    """
    own = _free_port()
    environment = {**process_environment(stack.env), port: str(own)}
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=output, stderr=output)
    try:
        yield Second(process, {port: str(own)}, own, log)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        end(process, STOP_SECONDS)


def module(name: str) -> list[str]:
    """The command of a process that is a module."""
    return [sys.executable, "-m", name]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
