"""The machine of the Redis master is lost, again and again, under load: nothing else is."""

import time
from collections.abc import Iterator

import pytest

from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.groups import GroupsPlace, groups_place
from tests.chaos.judge import Judge, Verdict
from tests.chaos.redis_failovers import Failover, chosen

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[GroupsPlace]:
    """All processes, and a bridge and a worker more, on a Redis of three machines with Sentinels."""
    with groups_place(stack, ["redis"], more={"bridge": 1, "worker": 1}) as made:
        yield made


@pytest.mark.parametrize("failover", chosen(options.failovers("redis")), ids=lambda failover: failover.name)
def test_the_loss_of_the_masters_machine_loses_and_doubles_nothing(
    place: GroupsPlace, judge: Judge, verdict: Verdict, failover: Failover
) -> None:
    """Until readings are stored as quickly as before, and the old master follows the new one."""
    place.await_whole()
    judge.begin()
    began = time.monotonic()
    try:
        failover.begin(place)
        verdict.seconds = time.monotonic() - began
        time.sleep(failover.seconds)
    finally:
        failover.end()
    place.others.mind()
    judge.recovery(verdict, began + verdict.seconds)
    place.await_whole()
    judge.judge(verdict)
    assert verdict.passed, verdict.problems


def test_all_failovers_together_have_lost_and_doubled_nothing(judge: Judge, verdict: Verdict) -> None:
    """The whole load once more."""
    judge.judge_all(verdict)
    assert verdict.passed, verdict.problems
