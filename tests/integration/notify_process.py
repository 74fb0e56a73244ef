"""The worker of `notify` as a process of its own, where the stack's must not be in the way."""

import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from compose.local.layout import PROJECT
from compose.local.preparation import process_environment
from compose.local.procfile import read
from compose.local.stack import Stack


@contextmanager
def notify_worker(stack: Stack, **values: str) -> Iterator[subprocess.Popen[bytes]]:
    """The worker of the Procfile, as its own process; stopped gently at the end."""
    environment = {**process_environment(stack.env), **values}
    command = shlex.split(read(PROJECT / "Procfile")["notify"])
    process = subprocess.Popen(command, cwd=PROJECT, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
