"""Processes of a stack that no supervisor looks after any more, after a crash or a kill."""

import os
import signal
import time
from pathlib import Path

from compose.local.layout import Layout
from compose.local.servers import MARK


def find(layout: Layout) -> dict[int, str]:
    """Name by process id of every process that carries the stack's mark in its environment."""
    mark = os.fsencode(f"{MARK}={layout.base}")
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "comm").read_text().strip()
        except OSError:  # another user's process, or one that ended meanwhile
            continue
    found.pop(os.getpid(), None)
    return found


def end(layout: Layout, grace_seconds: float = 20.0) -> dict[int, str]:
    """Ends them, by TERM and after the grace by KILL, and returns those that there were."""
    found = find(layout)
    _signal(found, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while (left := find(layout)) and time.monotonic() < deadline:
        time.sleep(0.1)
    while left:
        _signal(left, signal.SIGKILL)
        time.sleep(0.05)
        left = find(layout)
    return found


def _signal(processes: dict[int, str], number: signal.Signals) -> None:
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
