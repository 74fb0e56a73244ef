"""Whatever breaks under load: each message has one outcome, alerts are exact, and all is well again."""

import time

import pytest

from tests.chaos import options
from tests.chaos.judge import Judge, Verdict
from tests.chaos.place import Fault, Place

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("fault", options.faults(), ids=lambda fault: fault.name)
def test_nothing_is_lost_doubled_or_swapped(
    place: Place, judge: Judge, verdict: Verdict, fault: Fault
) -> None:
    """One fault, from its beginning until readings are stored as quickly as before."""
    judge.begin()
    began = time.monotonic()
    try:
        fault.begin(place)
        time.sleep(fault.seconds)
    finally:
        fault.end(place)
    verdict.seconds = time.monotonic() - began
    judge.recovery(verdict, began + verdict.seconds)
    judge.judge(verdict)
    assert verdict.passed, verdict.problems


def test_all_faults_together_have_lost_and_doubled_nothing(judge: Judge, verdict: Verdict) -> None:
    """The whole load once more: nothing came late, twice, or between two faults."""
    judge.judge_all(verdict)
    assert verdict.passed, verdict.problems
