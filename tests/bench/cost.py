"""The cost of a drain: each process's CPU time and memory, from `/proc`, and the traffic with Redis."""

import os
from pathlib import Path
from typing import Any

import redis

from compose.local.errors import StackError
from compose.local.stack import Stack

SERVERS = ("kafka", "redis", "postgres", "pgbouncer")
PROCESSES = ("bridge", "worker")

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(stack: Stack, names: tuple[str, ...] = (*SERVERS, *PROCESSES)) -> dict[str, float]:
    """CPU time that each running program has used so far; a worker's main process apart from its children."""
    used: dict[str, float] = {}
    for name in names:
        try:
            pid = stack.pid(name)
        except StackError:
            continue
        own, children = cpu_of(pid)
        if name == "worker":
            used["worker, main process"], used["worker, children"] = own, children
        else:
            used[name] = own + children
    return used


def cpu_of(pid: int) -> tuple[float, float]:
    """CPU time that the process itself has used so far, and that of all that descend from it."""
    own, ended = _times(pid)
    # The time of children that have ended is in their parent.
    return own, ended + sum(sum(_times(one)) for one in family(pid)[1:])


def redis_traffic(server: redis.Redis) -> dict[str, float]:
    """Commands and bytes so far."""
    stats: dict[str, Any] = server.info("stats")
    return {
        "commands": float(stats["total_commands_processed"]),
        "bytes in": float(stats["total_net_input_bytes"]),
        "bytes out": float(stats["total_net_output_bytes"]),
    }


class Memory:
    """Resident memory over time, by program, with its children, as pairs of seconds and MiB.

    What processes share is counted in each, so a worker's sum is more than it takes.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.seen: dict[str, list[tuple[float, float]]] = {}

    def sample(self, at: float) -> None:
        """Looks once more; a program that is not running is left out."""
        for name in ("bridge", "worker", "redis"):
            try:
                pid = self._stack.pid(name)
            except StackError:
                continue
            self.seen.setdefault(name, []).append((at, sum(map(_resident_mib, family(pid)))))


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for one in found:
        found += _children(one)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found += map(int, (thread / "children").read_text().split())
        except FileNotFoundError:
            continue
    return found


def _times(pid: int) -> tuple[float, float]:
    """The CPU time of the process itself, and of its children that have ended."""
    try:
        # The name in parentheses may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0, 0.0
    own, ended = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return own / _TICKS_PER_SECOND, ended / _TICKS_PER_SECOND


def _resident_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except FileNotFoundError:
        return 0.0
    return 0.0
