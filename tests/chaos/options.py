"""What a run of the chaos tests is asked for, by environment variables that `python -m tests.chaos` sets."""

import os
import random
from collections.abc import Sequence
from typing import TypeVar
from zlib import crc32

from tests.chaos.place import Fault
from tests.chaos.selection import drawn, named, shuffled, some

Kind = TypeVar("Kind")

ALL = os.environ.get("CHAOS", "") == "all"
# Each run has another order. Its number is printed and names the file of its figures: it can be repeated.
# Tests that run side by side are collected by each process: all of these draw the same order.
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or random.SystemRandom().randbytes(8).hex()
SEED = int(os.environ.get("CHAOS_SEED") or crc32(_RUN.encode()) % 1_000_000)
SECONDS = float(os.environ.get("CHAOS_SECONDS") or 15)
ONLY = [name for name in os.environ.get("CHAOS_ONLY", "").split(",") if name]
# Each device publishes once in so many seconds. In `make test` two other sets of processes work beside this
# one, and what is tested is whether messages survive; how many a second is the business of the whole run.
# Eight machines of servers beside all processes are enough for the two cores of a small machine.
TICK_SECONDS = 0.2 if ALL and not os.environ.get("HA_PAIRS") else 0.5
MESSAGES = int(os.environ.get("CHAOS_MESSAGES") or (100_000 if ALL else 10_000))


def failovers(server: str) -> int:
    """How many strikes a run of `make ha` has of this name, such as `redis` or `pairs`."""
    return int(os.environ.get(f"HA_{server.upper().replace('-', '_')}") or 0)


def in_turn(kinds: Sequence[Kind], count: int) -> list[Kind]:
    """So many of these, one kind after the other, again and again."""
    return [kinds[number % len(kinds)] for number in range(count)]


REQUESTS = int(os.environ.get("FUZZ_REQUESTS") or 300)
REQUEST_SECONDS = float(os.environ.get("FUZZ_SECONDS") or 300)


def faults() -> list[Fault]:
    """The faults of this run, in its order."""
    if ONLY:
        return shuffled(named(ONLY, SECONDS), SEED)
    return drawn(SECONDS, SEED) if ALL else shuffled(some(), SEED)
