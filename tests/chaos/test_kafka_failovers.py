"""A machine of three that Kafka runs on is lost, again and again, under load: nothing else is."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.local import preparation
from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.judge import Judge, Verdict
from tests.chaos.kafka_failovers import BrokersPlace, Failover, chosen
from tests.chaos.more_processes import moved
from tests.integration.kafka_group import kafka_group

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[BrokersPlace]:
    """All processes, a bridge more and two workers more, on a Kafka of three machines."""
    before = stack.env
    folder = Path(tempfile.mkdtemp(prefix="kafka-", dir=stack.layout.base))
    with kafka_group(folder) as group:
        preparation.topics({**before, **group.settings})
        with moved(stack, group.settings, workers=2) as others:
            yield BrokersPlace(
                stack, {}, before["REDIS_URL"], before["DATABASE_DIRECT_URL"], group=group, others=others
            )
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("failover", chosen(options.failovers("kafka")), ids=lambda failover: failover.name)
def test_the_loss_of_a_machine_of_kafka_loses_and_doubles_nothing(
    place: BrokersPlace, judge: Judge, verdict: Verdict, failover: Failover
) -> None:
    """Until readings are stored as quickly as before, and all brokers have all records."""
    place.group.await_whole()
    struck = failover.victim(place.group)
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
    place.group.await_whole()
    judge.judge(verdict)
    assert verdict.passed, verdict.problems


def test_all_failovers_together_have_lost_and_doubled_nothing(judge: Judge, verdict: Verdict) -> None:
    """The whole load once more."""
    judge.judge_all(verdict)
    assert verdict.passed, verdict.problems
