"""A machine of three that Kafka runs on is lost, again and again, under load: nothing else is."""

import time
from collections.abc import Iterator

import pytest

from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.groups import GroupsPlace, groups_place
from tests.chaos.judge import Judge, Verdict
from tests.chaos.kafka_failovers import KINDS, Failover

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[GroupsPlace]:
    """All processes, a bridge more and two workers more, on a Kafka of three machines."""
    with groups_place(stack, ["kafka"], more={"bridge": 1, "worker": 2}) as made:
        yield made


@pytest.mark.parametrize(
    "failover", options.in_turn(KINDS, options.failovers("kafka")), ids=lambda failover: failover.name
)
def test_the_loss_of_a_machine_of_kafka_loses_and_doubles_nothing(
    place: GroupsPlace, judge: Judge, verdict: Verdict, failover: Failover
) -> None:
    """Until readings are stored as quickly as before, and all brokers have all records."""
    place.await_whole()
    struck = failover.victim(place.brokers)
    judge.begin()
    began = time.monotonic()
    failover.strike(struck)
    try:
        time.sleep(failover.seconds)
        verdict.seconds = time.monotonic() - began
    finally:
        failover.mend(struck)
    place.others.mind()
    judge.recovery(verdict, began + verdict.seconds)
    place.await_whole()
    judge.judge(verdict)
    assert verdict.passed, verdict.problems


def test_all_failovers_together_have_lost_and_doubled_nothing(judge: Judge, verdict: Verdict) -> None:
    """The whole load once more."""
    judge.judge_all(verdict)
    assert verdict.passed, verdict.problems
