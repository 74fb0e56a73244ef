"""Two components are lost at about the same time, under load, where each has another that takes over."""

import time
from collections.abc import Iterator

import psycopg
import pytest

from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.groups import MADE, GroupsPlace, groups_place
from tests.chaos.judge import Judge, Verdict
from tests.chaos.pairs import AWAY_SECONDS, PAIRS, Pair
from tests.integration import fleet
from tests.integration.user_program import HOT, User

pytestmark = pytest.mark.timeout(600)

# A request waits for what it needs, and then is done.
ANSWER_SECONDS = 90


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[GroupsPlace]:
    """Two of each process, and groups of all three servers."""
    more = {"gateway": 1, "bridge": 1, "control": 1, "worker": 1}
    with groups_place(stack, list(MADE), more=more) as made:
        yield made


@pytest.fixture
def user(place: GroupsPlace) -> Iterator[User]:
    """A user who sets rules meanwhile."""
    with psycopg.connect(place.rows_url(), autocommit=True) as database:
        connected = User(place.stack, database)
    yield connected
    fleet.disconnect([fleet.Device(connected.id, "", connected.client)])


@pytest.mark.parametrize(
    "pair", options.in_turn(PAIRS, options.failovers("pairs")), ids=lambda pair: pair.name
)
def test_two_losses_at_once_lose_and_double_nothing(
    place: GroupsPlace, judge: Judge, verdict: Verdict, user: User, pair: Pair
) -> None:
    """Until readings are stored as quickly as before; a request of a user is done, too."""
    place.await_whole()
    judge.begin()
    began = time.monotonic()
    try:
        pair.begin(place)
        verdict.seconds = time.monotonic() - began
        user.publish("config", {"rules": [HOT]})
        time.sleep(max(0.0, began + AWAY_SECONDS - time.monotonic()))
    finally:
        pair.end(place)
    judge.recovery(verdict, time.monotonic())
    fleet.wait_until(lambda: bool(user.heard), ANSWER_SECONDS, "the answer to a request")
    place.others.mind()
    place.await_whole()
    judge.judge(verdict)
    with psycopg.connect(place.rows_url()) as database:
        assert [user.heard[0][1]["ok"], user.rules(database)] == [True, [HOT]]
    assert verdict.passed, verdict.problems


def test_all_pairs_together_have_lost_and_doubled_nothing(judge: Judge, verdict: Verdict) -> None:
    """The whole load once more."""
    judge.judge_all(verdict)
    assert verdict.passed, verdict.problems
