"""Two servers that are both taken for the master for a while, each with its own states and its own outbox.

A master that was stopped and replaced goes on as one until the Sentinels or its replicas say otherwise.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.local.stack import Stack
from tasks.batch.lease import GIVEN_UP
from tasks.process import process_part
from tasks.store import store_batch
from tests.integration.changes import Database, history, rows, tell_users, write_tables
from tests.integration.part_tasks import BRIDGE, hot_user, report, send, work
from tests.integration.redis_servers import OwnRedis, own_redis, work_on
from tests.integration.subscriber import subscriber

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def servers(in_process: None, tmp_path: Path) -> Iterator[tuple[OwnRedis, OwnRedis]]:  # noqa: ARG001 - it must come first
    """The old master, which the modules of `tasks` work on, and the next one."""
    with own_redis(tmp_path, 2) as (old, following):
        work_on(old)
        yield old, following


def test_what_waits_in_the_outbox_of_the_old_master_does_not_overwrite_what_came_since(
    servers: tuple[OwnRedis, OwnRedis], database: Database
) -> None:
    """An alert that is over does not begin again, and the old master goes on by what the tables have."""
    old, following = servers
    user = hot_user(database)
    assert work(*send(user, 20.0)) == "1"
    process_part(send(user, 90.0, first_offset=1)[0], 0)
    work_on(following)
    assert work(*send(user, 90.0, first_offset=1)) == "1"
    assert work(*send(user, 20.0, first_offset=2)) == "1"
    told = [("d", "TRIGGERED"), ("d", "RESOLVED")]
    assert history(database, user) == told
    assert rows(database, user) == []
    work_on(old)
    write_tables()
    assert rows(database, user) == []
    assert history(database, user) == told
    # It goes on by what the tables have, so a server that was replaced by mistake is not lost.
    assert work(*send(user, 90.0, first_offset=3)) == "1"
    assert history(database, user) == [*told, ("d", "TRIGGERED")]


def test_a_batch_of_the_old_master_is_not_done_once_another_one_has_the_states(
    stack: Stack, servers: tuple[OwnRedis, OwnRedis], database: Database
) -> None:
    """Its changes of alerts would be in the old master alone; by the next one it is done, and told once."""
    old, following = servers
    user = hot_user(database)
    assert work(*send(user, 20.0)) == "1"
    batch, total = send(user, 90.0, first_offset=1)
    result = process_part(batch, 0)
    work_on(following)
    assert work(*send(user, 20.0)) == "1"
    work_on(old)
    store_batch(result, batch, 1, total, BRIDGE)
    assert report(batch) == GIVEN_UP
    assert history(database, user) == []
    work_on(following)
    with subscriber(stack, user) as listening:
        assert work(*send(user, 90.0, first_offset=1)) == "1"
        tell_users()
        assert listening.told(1) == [("d", "TRIGGERED")]
    assert history(database, user) == [("d", "TRIGGERED")]
    assert rows(database, user) == [("d", "TRIGGERED", 90.0, 1)]
