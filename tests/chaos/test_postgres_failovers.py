"""A machine of two that PostgreSQL runs on is lost, again and again, under load: nothing else is."""

import time
from collections.abc import Iterator

import pytest

from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.groups import GroupsPlace, groups_place
from tests.chaos.judge import Judge, Verdict
from tests.chaos.postgres_failovers import Failover, chosen

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[GroupsPlace]:
    """All processes, a bridge more and two workers more, on a PostgreSQL of two machines."""
    with groups_place(stack, ["postgres"], more={"bridge": 1, "worker": 2}) as made:
        yield made


@pytest.mark.parametrize(
    "failover", chosen(options.failovers("postgres")), ids=lambda failover: failover.name
)
def test_the_loss_of_a_machine_of_postgresql_loses_and_doubles_nothing(
    place: GroupsPlace, judge: Judge, verdict: Verdict, failover: Failover
) -> None:
    """Until readings are stored as quickly as before, and the lost machine follows the other."""
    judge.begin()
    began = time.monotonic()
    failover.begin(place.pair)
    verdict.seconds = time.monotonic() - began
    failover.end(place.pair)
    place.others.mind()
    judge.recovery(verdict, began + verdict.seconds)
    judge.judge(verdict)
    assert verdict.passed, verdict.problems


def test_all_failovers_together_have_lost_and_doubled_nothing(judge: Judge, verdict: Verdict) -> None:
    """The whole load once more."""
    judge.judge_all(verdict)
    assert verdict.passed, verdict.problems
