"""The machine of the Redis master is lost, again and again, under load: nothing else is."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.local import envfile
from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.failovers import Failover, GroupPlace, Seconds, chosen
from tests.chaos.judge import Judge, Verdict
from tests.conftest import PROCESSES, forget_other_memories
from tests.integration.redis_group import redis_group

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[GroupPlace]:
    """All processes, and a bridge and a worker more, on a Redis of three machines with Sentinels."""
    before = stack.env
    folder = Path(tempfile.mkdtemp(prefix="redis-", dir=stack.layout.base))
    with redis_group(folder) as group:
        _stop_processes(stack)
        # To the stack this is its own server.
        marks = [before[envfile.OWN], envfile.fingerprint(group.settings["REDIS_URL"])]
        envfile.write(stack.layout.env, {**before, **group.settings, envfile.OWN: ",".join(marks)})
        try:
            stack.up((*PROCESSES, "beat"), prepare=False)
            seconds = Seconds(stack)
            try:
                yield GroupPlace(
                    stack, {}, before["REDIS_URL"], before["DATABASE_DIRECT_URL"], group=group, others=seconds
                )
            finally:
                seconds.close()
        finally:
            _stop_processes(stack)
            envfile.write(stack.layout.env, before)
            forget_other_memories(stack)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("failover", chosen(options.failovers("redis")), ids=lambda failover: failover.name)
def test_the_loss_of_the_masters_machine_loses_and_doubles_nothing(
    place: GroupPlace, judge: Judge, verdict: Verdict, failover: Failover
) -> None:
    """Until readings are stored as quickly as before, and the old master follows the new one."""
    place.group.await_whole()
    judge.begin()
    began = time.monotonic()
    try:
        failover.begin(place)
        verdict.seconds = time.monotonic() - began
        time.sleep(failover.seconds)
    finally:
        failover.end(place)
    place.others.mind()
    judge.recovery(verdict, began + verdict.seconds)
    place.group.await_whole()
    judge.judge(verdict)
    assert verdict.passed, verdict.problems


def test_all_failovers_together_have_lost_and_doubled_nothing(judge: Judge, verdict: Verdict) -> None:
    """The whole load once more."""
    judge.judge_all(verdict)
    assert verdict.passed, verdict.problems


def _stop_processes(stack: Stack) -> None:
    for name in (*PROCESSES, "beat"):
        stack.stop(name)
