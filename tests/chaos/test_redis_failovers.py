"""The machine of the Redis master is lost, again and again, under load: nothing else is."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.judge import Judge, Verdict
from tests.chaos.more_processes import moved
from tests.chaos.redis_failovers import Failover, GroupPlace, chosen
from tests.integration.redis_group import redis_group

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[GroupPlace]:
    """All processes, and a bridge and a worker more, on a Redis of three machines with Sentinels."""
    before = stack.env
    folder = Path(tempfile.mkdtemp(prefix="redis-", dir=stack.layout.base))
    with redis_group(folder) as group, moved(stack, group.settings, workers=1) as others:
        yield GroupPlace(
            stack, {}, before["REDIS_URL"], before["DATABASE_DIRECT_URL"], group=group, others=others
        )
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
