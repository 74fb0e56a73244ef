"""A Redis that loses a part of its memory while a batch is under way: the alert is told, and once."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.lanes.dispatch import Dispatcher
from ingest.lanes.lane import Batch
from tasks.batch import marks
from tasks.batch.lease import GIVEN_UP
from tasks.process import process_part
from tasks.servers.redis_client import client, evidence_key, lease_key, server_run
from tasks.servers.rules_version import announce_change
from tasks.store import store_batch
from tests.conftest import PROJECT
from tests.integration import forked
from tests.integration.changes import Database, history, rows, tell_users
from tests.integration.fleet import wait_until
from tests.integration.part_tasks import BRIDGE, RULES, hot_user, report, send, work
from tests.integration.redis_servers import OwnRedis, own_redis, work_on
from tests.integration.subscriber import subscriber

Fault = Callable[[OwnRedis, OwnRedis], None]


@pytest.fixture
def servers(in_process: None, tmp_path: Path) -> Iterator[tuple[OwnRedis, OwnRedis]]:  # noqa: ARG001 - it must come first
    """The Redis that the modules of `tasks` work on, and one more."""
    with own_redis(tmp_path, 2) as (used, other):
        work_on(used)
        yield used, other


def storing(database: Database, work: Callable[[], object], fault: Callable[[], None]) -> None:
    """Has the fault happen while `store` waits for the table."""
    thread = threading.Thread(target=work)
    with database.transaction():
        database.execute("LOCK TABLE raw_telemetry IN ACCESS EXCLUSIVE MODE")
        thread.start()
        with psycopg.connect(os.environ["DATABASE_DIRECT_URL"], autocommit=True) as looking:
            query = "SELECT count(*) FROM pg_locks WHERE relation = 'raw_telemetry'::regclass AND NOT granted"
            wait_until(lambda: looking.execute(query).fetchone() != (0,), 30, "the store to wait")
        fault()
    thread.join(60)
    assert not thread.is_alive()


def restart(used: OwnRedis, _: OwnRedis) -> None:
    """The server dies, and starts with the snapshot that it has."""
    used.kill()
    used.start()


def fail_over(used: OwnRedis, other: OwnRedis) -> None:
    """The server dies, and the other one takes its place."""
    port = used.port
    used.kill()
    other.move(port)


def fail_over_and_back(used: OwnRedis, other: OwnRedis) -> None:
    """The other one takes over, this one follows it, and is the primary again: with the run that it had."""
    used.replicate(other)
    other.kill()
    used.promote()


def restart_and_rebuild(used: OwnRedis, other: OwnRedis) -> None:
    """The same, and another worker has brought the states back before the batch ends."""
    restart(used, other)
    rebuild = "from tasks.alerts.rebuild import rebuild_states; rebuild_states()"
    done = forked.run("-c", rebuild, env=os.environ, cwd=PROJECT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fault", [restart, restart_and_rebuild, fail_over, fail_over_and_back])
def test_an_alert_that_redis_lost_after_its_commit_is_told_once(
    stack: Stack, servers: tuple[OwnRedis, OwnRedis], database: Database, fault: Fault
) -> None:
    """The batch that triggered it does not count as done, and is sent again."""
    used, other = servers
    user = hot_user(database)
    assert work(*send(user, 20.0)) == "1"
    batch, total = send(user, 90.0, first_offset=1)
    # What the snapshot and the other server have: the batch with its lease, and nothing of what it does.
    if fault in {fail_over, fail_over_and_back}:
        other.replicate(used)
        other.promote()
    used.save()
    result = process_part(batch, 0)
    storing(database, lambda: store_batch(result, batch, 1, total, BRIDGE), lambda: fault(used, other))
    assert report(batch) == GIVEN_UP
    with subscriber(stack, user) as listening:
        assert work(*send(user, 90.0, first_offset=1)) == "1"
        tell_users()
        assert listening.told(1) == [("d", "TRIGGERED")]
    assert history(database, user) == [("d", "TRIGGERED")]
    assert rows(database, user) == [("d", "TRIGGERED", 90.0, 1)]


@pytest.mark.usefixtures("stack")
def test_a_resolution_that_was_never_decided_is_made_up_for(
    servers: tuple[OwnRedis, OwnRedis], database: Database
) -> None:
    """A part that committed nothing counts neither, once the states that it was judged by are gone."""
    used, other = servers
    user = hot_user(database)
    assert work(*send(user, 20.0)) == "1"
    batch, total = send(user, 20.0, first_offset=1)
    used.save()
    result = process_part(batch, 0)
    storing(database, lambda: store_batch(result, batch, 1, total, BRIDGE), lambda: restart(used, other))
    assert report(batch) == GIVEN_UP


@pytest.mark.usefixtures("stack")
def test_rules_that_redis_forgot_to_have_changed_are_in_force_after_the_rebuild(
    servers: tuple[OwnRedis, OwnRedis], database: Database
) -> None:
    """The change is in the table, and the number that outdates the workers' copies is the old one again."""
    used, other = servers
    user = hot_user(database)
    assert work(*send(user, 20.0)) == "1"
    used.save()
    higher = json.dumps([{**RULES[0], "threshold": 95}])
    database.execute("UPDATE user_configs SET rules = %s WHERE user_id = %s", [higher, user])
    announce_change()
    restart(used, other)
    assert work(*send(user, 90.0, first_offset=1)) == "1"
    assert history(database, user) == []


@pytest.mark.usefixtures("stack")
def test_a_batch_is_sent_again_at_once_when_redis_has_failed_over(
    servers: tuple[OwnRedis, OwnRedis],
) -> None:
    """Its lease may have come along, and its task not; nobody was killed by its messages."""
    used, other = servers
    dispatcher, batch = Dispatcher(), Batch("", [b""], 1, {})
    try:
        assert dispatcher.send(batch, 0, time.monotonic())
        assert dispatcher.lost([batch], time.monotonic()) == []
        client().expire(lease_key(batch.id), 600)
        client().hset(evidence_key(batch.id), "process", 1)
        other.replicate(used)
        other.promote()
        fail_over(used, other)
        lost = lambda: dispatcher.lost([batch], time.monotonic()) == [batch]  # noqa: E731
        wait_until(lost, 60, "the batch to count as lost")
        assert client().exists(lease_key(batch.id))
        assert marks.read(batch.id) is None
    finally:
        dispatcher.close()


@pytest.mark.usefixtures("stack")
def test_a_primary_that_is_one_again_is_another_run(servers: tuple[OwnRedis, OwnRedis]) -> None:
    """What is marked with the run may have lost its last writes meanwhile."""
    used, other = servers
    client().get("anything")
    before = server_run()
    other.replicate(used)
    other.promote()
    fail_over_and_back(used, other)
    client().connection_pool.disconnect()
    client().get("anything")
    assert server_run() != before
