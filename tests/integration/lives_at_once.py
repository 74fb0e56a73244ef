"""Many lives at once: what their devices send meanwhile is judged as one part of a batch."""

import random
from typing import Any, NamedTuple
from unittest import mock

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.cache import LRUReusedCache
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from tasks.alerts import state_store
from tasks.alerts.evaluate import evaluate
from tasks.batch.messages import NOTHING_DEFERRED
from tasks.outbox import deliver
from tasks.rows.validate import Received
from tasks.rules.machine import Observation
from tasks.telemetry import DOMAIN
from tests.integration.real_device import Database, RealDevice
from tests.unit.tasks.alerts.stored_device import received
from tests.unit.tasks.rules.kept_lives import KeptLife
from tests.unit.tasks.rules.lives import Event, told, well_formed

# How far the readings of one part may be apart: those of a moment, and those that waited for an hour.
PARTS = (1, 30, 300, 4000)
READ = {"reading", "flips", "repeated", "redelivered", "again"}
# How often a batch is lost after `process`, and comes again.
LOST = 0.3

Script = tuple[list[dict[str, Any]], list[Event]]


def drawn(scripts: st.SearchStrategy[Script], number: int, count: int) -> list[Script]:
    """So many scripts of lives, always the same for a number.

    Hypothesis draws also what the source of all imported modules has, which depends on the other tests.
    """
    found: list[Script] = []

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts)
    def draw(script: Script) -> None:
        found.append(script)

    with (
        mock.patch.object(providers, "_get_local_constants", Constants),
        mock.patch.object(providers, "CONSTANTS_CACHE", LRUReusedCache(1024)),
    ):
        draw()
    return found


class Sent(NamedTuple):
    """A record on its way."""

    at: float
    record: Received


class _Device(RealDevice):
    """Its readings wait until they are judged together with those of others."""

    def __init__(self, database: Database) -> None:
        self.waiting: list[Observation] = []
        super().__init__(database)

    def judge(self, *readings: Observation) -> list[str]:
        """Later."""
        self.waiting += readings
        return []

    def _transact(self, decide: state_store.Decide) -> None:
        state_store.transact([(self.user, "d")], decide)


class _Life(KeptLife):
    def __init__(self, script: Script, database: Database) -> None:
        self.real = _Device(database)
        super().__init__(script[0], self.real)
        self.script = script
        self.left = list(script[1])

    def forget(self, *, everything: bool = False) -> None:
        """Nothing from before comes again."""
        del everything
        self.forgotten |= {record.offset for record in self.device.sent}

    def read_until(self, end: float) -> list[Sent]:
        """The readings that the device sends until then, or until something else happens."""
        sent: list[Sent] = []
        while self.left and self.left[0][0] in READ and self.now <= end:
            self.live([self.left.pop(0)])
            sent += [Sent(self.now, received(one, self.real.user)) for one in self.real.waiting]
            self.real.waiting = []
        return sent

    def go_on(self, end: float) -> bool:
        """Does what happens next, which is not a reading; whether it did."""
        if not self.left or self.now > end or self.left[0][0] in READ:
            return False
        self.live([self.left.pop(0)])
        return True


def live(scripts: list[Script], database: Database, number: int) -> list[str]:
    """Lives them all, and reports each that differs from the plain model, with what went wrong."""
    chance, end = random.Random(number), 0.0
    all_lives = [_Life(script, database) for script in scripts]
    while any(life.left for life in all_lives):
        end = max(end, min(life.now for life in all_lives if life.left)) + chance.choice(PARTS)
        busy = True
        while busy:
            sent = sorted((one for life in all_lives for one in life.read_until(end)), key=lambda one: one.at)
            for _ in range(1 + (chance.random() < LOST)):
                judged = evaluate(DOMAIN, [one.record for one in sent])
                assert judged.deferred == NOTHING_DEFERRED
            deliver.await_written(30)
            busy = sum(life.go_on(end) for life in all_lives) + len(sent) > 0
    return [wrong for life in all_lives for wrong in _wrong(life)]


def _wrong(life: _Life) -> list[str]:
    changes = life.device.changes
    try:
        told(changes, life.judged)
        well_formed(changes)
    except AssertionError as error:
        return [f"{life.script}: {[one.status for one in changes]}, {life.judged.told}: {error}"]
    return []
