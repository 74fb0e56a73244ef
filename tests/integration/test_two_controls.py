"""Two control processes: one acts, the other stands by and takes over, and nothing is done twice."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from compose.local.stack import Stack
from tests.integration import fleet, pages
from tests.integration.commands import sluice
from tests.integration.fleet import wait_until
from tests.integration.second_process import Second, module, readiness, second
from tests.integration.user_program import HOT, User

pytestmark = pytest.mark.usefixtures("on_servers")

Database = psycopg.Connection[tuple[Any, ...]]
# What docs/deploy.md promises of a process that hangs, or whose machine is gone.
HUNG_SECONDS = 20
STANDS_BY = "on standby"


@pytest.fixture
def user(pipeline: Stack, database: Database) -> Iterator[User]:
    """A user who is connected."""
    connected = User(pipeline, database)
    yield connected
    connected.client.disconnect()
    connected.client.loop_stop()


@pytest.fixture
def other(pipeline: Stack, tmp_path: Path) -> Iterator[Second]:
    """A second control process, which stands by."""
    wait_until(lambda: readiness(pipeline.env["CONTROL_METRICS_PORT"]) == "ok", 30, "the first to act")
    command = module("ingest.control")
    with second(pipeline, command, "CONTROL_METRICS_PORT", tmp_path / "other.log") as process:
        wait_until(lambda: STANDS_BY in process.ready(), 30, "the second to stand by")
        yield process


def numbered(count: int) -> dict[str, Any]:
    """A document of so many rules."""
    return {"rules": [{**HOT, "id": f"r{n}"} for n in range(count)]}


def states(stack: Stack, other: Second) -> list[str]:
    """What the two say of themselves, without who it is that acts."""
    said = (other.ready(), readiness(stack.env["CONTROL_METRICS_PORT"]))
    return sorted(STANDS_BY if STANDS_BY in one else one for one in said)


def answers(user: User) -> list[int]:
    """The numbers of rules in the answers so far; the first may have come again, and counts once.

    A process that ends right after an answer may not have acknowledged the request yet: the next one gets it.
    """
    found = [answer["rules"] for _, answer in user.heard]
    return found[:1] + [one for one in found[1:] if one != found[0]]


def test_one_of_two_acts_and_the_broker_throws_nobody_out(user: User, other: Second, pipeline: Stack) -> None:
    """Each request has one answer, the first keeps its connection, and the operator sees who stands by."""
    connects = pages.value(pipeline, "control", "sluice_mqtt_connects_total")
    for count in range(10):
        user.publish("config", numbered(count))
    wait_until(lambda: len(user.heard) >= 10, 30, "all answers")
    time.sleep(3)
    assert answers(user) == list(range(10))
    assert pages.value(pipeline, "control", "sluice_mqtt_connects_total") == connects
    assert other.ready().startswith(f"ok; {STANDS_BY}")
    assert "mqtt_connected" not in other.log.read_text()
    shown = sluice(pipeline, "status", CONTROL_METRICS_PORT=str(other.port)).stdout
    assert STANDS_BY in shown


def test_the_other_takes_over_from_one_that_is_killed(user: User, other: Second, pipeline: Stack) -> None:
    """Within seconds; a request that nobody had answered is, and the first stands by when it is back."""
    assert user.ask("config", numbered(1))["ok"]
    fleet.kill(pipeline.pid("control"))
    user.publish("config", numbered(2))
    wait_until(lambda: len(answers(user)) == 2, 30, "the answer")
    wait_until(lambda: states(pipeline, other) == ["ok", STANDS_BY], 30, "one to act and one to stand by")
    assert answers(user) == [1, 2]


def test_the_other_takes_over_from_one_that_hangs_which_does_nothing_when_it_wakes(
    user: User, other: Second, pipeline: Stack, database: Database
) -> None:
    """What it had taken and not done is done by the other, once; later rules are not undone."""
    assert user.ask("config", numbered(1))["ok"]
    hung = pipeline.pid("control")
    os.kill(hung, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        # These wait in the socket of the one that hangs.
        user.publish("config", numbered(2))
        user.publish("config", numbered(3))
        wait_until(lambda: len(answers(user)) == 3, HUNG_SECONDS, "the other's answers")
        assert time.monotonic() - begun < HUNG_SECONDS
        assert user.ask("config", numbered(4))["ok"]
    finally:
        os.kill(hung, signal.SIGCONT)
    wait_until(lambda: hung != pipeline.pid("control"), 30, "the first to end and to be started again")
    wait_until(
        lambda: STANDS_BY in readiness(pipeline.env["CONTROL_METRICS_PORT"]), 30, "the first to stand by"
    )
    time.sleep(3)
    assert answers(user) == [1, 2, 3, 4]
    assert user.rules(database) == numbered(4)["rules"]
    assert other.ready() == "ok"
    assert user.ask("config", numbered(5))["ok"]


def test_a_restart_of_the_database_leaves_one_that_acts(user: User, other: Second, pipeline: Stack) -> None:
    """Both lose the lock with their sessions; whoever gets it, the other stands by, and requests are done."""
    assert user.ask("config", numbered(1))["ok"]
    pipeline.restart("postgres")
    user.publish("config", numbered(2))
    wait_until(lambda: len(answers(user)) == 2, 60, "the answer")
    wait_until(lambda: states(pipeline, other) == ["ok", STANDS_BY], 60, "one to act and one to stand by")
    assert user.ask("config", numbered(3))["ok"]
    assert answers(user) == [1, 2, 3]
