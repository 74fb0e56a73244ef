"""The machine that most depends on has a bad network, a wrong clock or a full disk, under load."""

import time
from collections.abc import Iterator

import pytest

from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.groups import GroupsPlace, groups_place
from tests.chaos.judge import Judge, Verdict
from tests.chaos.troubles import KINDS, SECONDS, Trouble

pytestmark = pytest.mark.timeout(600)

SERVERS = [name for name in ("redis", "kafka", "postgres") if options.failovers(f"{name}-troubles")]
COUNT = max((options.failovers(f"{server}-troubles") for server in SERVERS), default=0)


@pytest.fixture(scope="module")
def place(stack: Stack, request: pytest.FixtureRequest) -> Iterator[GroupsPlace]:
    """All processes, a bridge more and two workers more, on a group of this server."""
    with groups_place(stack, [request.param], more={"bridge": 1, "worker": 2}, troubles=True) as made:
        yield made


# The nearest comes first in the name.
@pytest.mark.parametrize("trouble", options.in_turn(KINDS, COUNT), ids=lambda trouble: trouble.name)
@pytest.mark.parametrize("place", SERVERS, indirect=True)
def test_a_machine_in_trouble_loses_and_doubles_nothing(
    place: GroupsPlace, judge: Judge, verdict: Verdict, trouble: Trouble
) -> None:
    """Until readings are stored as quickly as before, and the group is whole."""
    place.await_whole()
    (server,) = place.groups
    machine = place.leading(server)
    judge.begin()
    began = time.monotonic()
    try:
        trouble.begin(machine)
        time.sleep(SECONDS)
    finally:
        trouble.end(machine)
    verdict.seconds = time.monotonic() - began
    place.others.mind()
    judge.recovery(verdict, began + verdict.seconds)
    place.await_whole()
    judge.judge(verdict)
    assert verdict.passed, verdict.problems


@pytest.mark.parametrize("place", SERVERS, indirect=True, ids=[f"{name}-all of them" for name in SERVERS])
def test_all_troubles_together_have_lost_and_doubled_nothing(judge: Judge, verdict: Verdict) -> None:
    """The whole load once more."""
    judge.judge_all(verdict)
    assert verdict.passed, verdict.problems
