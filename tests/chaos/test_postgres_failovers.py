"""A machine of two that PostgreSQL runs on is lost, again and again, under load: nothing else is."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.local import preparation
from compose.local.passwords import password
from compose.local.programs import MOSQUITTO_AUTH
from compose.local.servers import SERVICE
from compose.local.stack import Stack
from tests.chaos import options
from tests.chaos.judge import Judge, Verdict
from tests.chaos.more_processes import moved
from tests.chaos.postgres_failovers import Failover, PairPlace, chosen
from tests.integration.postgres_pair import postgres_pair

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[PairPlace]:
    """All processes, a bridge more and two workers more, on a PostgreSQL of two machines."""
    before = stack.env
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=stack.layout.base))
    with postgres_pair(folder) as pair:
        env = {**before, **pair.settings}
        preparation.migrate(env)
        preparation.service_account(env, SERVICE, password(stack.layout, "mqtt"))
        preparation.rights(env)
        with moved(stack, pair.settings, workers=2, restart=[MOSQUITTO_AUTH]) as others:
            yield PairPlace(stack, {}, before["REDIS_URL"], env["DATABASE_URL"], pair=pair, others=others)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    "failover", chosen(options.failovers("postgres")), ids=lambda failover: failover.name
)
def test_the_loss_of_a_machine_of_postgresql_loses_and_doubles_nothing(
    place: PairPlace, judge: Judge, verdict: Verdict, failover: Failover
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
