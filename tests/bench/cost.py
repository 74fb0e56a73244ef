"""What a drain costs: the CPU time of each process, from `/proc`, with the children that it has or had."""

import os
from collections.abc import Iterable
from pathlib import Path

from compose.local.stack import Stack

SERVERS = ("kafka", "redis", "postgres", "pgbouncer")
PROCESSES = ("bridge", "worker")

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(stack: Stack, names: Iterable[str] = (*SERVERS, *PROCESSES)) -> dict[str, float]:
    """CPU time that each program has used so far; a worker's main process apart from its children."""
    used: dict[str, float] = {}
    for name in names:
        pid = stack.pid(name)
        whole = _tree(pid)
        if name == "worker":
            used["worker main"] = _own(pid)
            used["worker children"] = whole - used["worker main"]
        else:
            used[name] = whole
    return used


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for one in found:
        found += _children(one)
    return found


def _tree(pid: int) -> float:
    # Of children that have ended the parent has the time.
    return sum(_times(one)[0] + _times(one)[1] for one in family(pid))


def _own(pid: int) -> float:
    return _times(pid)[0]


def _times(pid: int) -> tuple[float, float]:
    """Of the process itself, and of its children that have ended."""
    try:
        # The name in parentheses may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0, 0.0
    own, ended = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return own / _TICKS_PER_SECOND, ended / _TICKS_PER_SECOND


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found += map(int, (thread / "children").read_text().split())
        except FileNotFoundError:
            continue
    return found
