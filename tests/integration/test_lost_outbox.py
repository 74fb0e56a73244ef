"""Changes that Redis loses are published all the same: the tables say which have been and which have not."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from compose.local.stack import Stack
from tasks import publish_changes
from tasks.outbox import deliver
from tasks.outbox.stream import LostOutbox
from tasks.rebuild import rebuild_all
from tasks.servers.redis_client import ALERTS_GENERATION, ALERTS_READY, OUTBOX, alert_key, client
from tests.integration.changes import (
    Database,
    empty_outbox,
    flap,
    history,
    judge,
    rows,
    tell_users,
    write_tables,
)
from tests.integration.subscriber import subscriber


@pytest.fixture(autouse=True)
def outbox(in_process: None) -> Iterator[None]:  # noqa: ARG001 - it must come first
    """An outbox of the test's own."""
    with empty_outbox():
        yield


def test_a_flushed_redis_begins_anew(stack: Stack) -> None:
    """Groups and turns that are gone with it are made again."""
    user = uuid4().hex[:8]
    flap(user, "d", 1)
    tell_users()
    client().flushall()
    with subscriber(stack, user) as listening:
        wanted = flap(user, "d", 1, start=5)
        tell_users()
        write_tables()
        assert listening.told(2) == wanted


def test_what_was_not_told_when_redis_was_flushed_is_told_again(stack: Stack, database: Database) -> None:
    """Unpublished changes come from the tables, before anything new; the rest once."""
    user = uuid4().hex[:8]
    with subscriber(stack, user) as listening:
        told = flap(user, "d", 2)
        deliver.await_written(20)
        tell_users()
        assert listening.told(4) == told
        write_tables()
        untold = flap(user, "d", 1, start=5)
        judge(user, "d", (20, 90.0))
        deliver.await_written(20)
        client().flushall()
        judge(user, "d", (20, 90.0), (21, 91.0), (22, 20.0))
        tell_users()
        wanted = [*told, *untold, ("d", "TRIGGERED"), ("d", "RESOLVED")]
        assert listening.told(len(wanted)) == wanted
    deliver.await_written(20)
    assert history(database, user) == wanted
    assert rows(database, user) == []


def test_a_restarted_redis_with_an_old_memory_is_not_believed(stack: Stack, database: Database) -> None:
    """A state of long ago, and an outbox of long ago, are dropped for what the tables say."""
    user = uuid4().hex[:8]
    flap(user, "d", 1)
    judge(user, "d", (5, 90.0))
    old_state = client().get(alert_key(user, "d"))
    old_outbox: Any = client().xrange(OUTBOX)
    judge(user, "d", (6, 20.0))
    deliver.await_written(20)
    tell_users()
    write_tables()
    client().flushall()
    assert isinstance(old_state, bytes)
    client().set(alert_key(user, "d"), old_state)
    for _, fields in old_outbox:
        client().xadd(OUTBOX, fields)
    client().set(ALERTS_READY, "the run before this one")
    with subscriber(stack, user) as listening:
        assert [change.status for change in judge(user, "d", (6, 20.0), (7, 90.0))] == ["TRIGGERED"]
        tell_users()
        assert listening.told(1) == [("d", "TRIGGERED")]
    deliver.await_written(20)
    assert rows(database, user) == [("d", "TRIGGERED", 90.0, 1)]
    assert len(history(database, user)) == 5


def test_a_rebuild_that_is_asked_for_changes_nothing(stack: Stack, database: Database) -> None:
    """Waiting entries of the outbox get into the tables first; states, alerts and notices stay the same."""
    user = uuid4().hex[:8]
    wanted = flap(user, "d", 1)
    judge(user, "d", (5, 90.0))
    before = client().get(alert_key(user, "d"))
    rebuild_all()
    assert client().get(alert_key(user, "d")) == before
    judge(user, "d", (5, 90.0), (6, 91.0), (7, 20.0))
    wanted += [("d", "TRIGGERED"), ("d", "RESOLVED")]
    deliver.await_written(20)
    assert history(database, user) == wanted
    with subscriber(stack, user) as listening:
        tell_users()
        assert listening.told(len(wanted)) == wanted


def old_run() -> None:
    """Redis has started again, with an old copy."""
    client().set(ALERTS_READY, "another")


def old_replication() -> None:
    """It was the primary before, and is again."""
    client().set(ALERTS_GENERATION, f"{client().info('server')['run_id']}/another/1/open")


@pytest.mark.parametrize("lose", [old_run, old_replication])
def test_an_outbox_of_another_memory_overwrites_nothing(database: Database, lose: Callable[[], None]) -> None:
    """A replica that was behind, or an old snapshot, has entries that say less than the tables."""
    user = uuid4().hex[:8]
    judge(user, "d", (1, 90.0))
    write_tables()
    judge(user, "d", (2, 20.0))
    lose()
    # Nobody waits for what cannot come.
    with pytest.raises(LostOutbox):
        deliver.await_written(60)
    publish_changes.deliver_database()
    assert history(database, user) == [("d", "TRIGGERED")]
    # The batch comes again.
    judge(user, "d", (1, 90.0), (2, 20.0))
    write_tables()
    assert history(database, user) == [("d", "TRIGGERED"), ("d", "RESOLVED")]
    assert rows(database, user) == []


def test_a_lost_memory_is_noticed_without_any_reading(stack: Stack) -> None:
    """Changes that the tables have and users did not get are published by the next delivery."""
    user = uuid4().hex[:8]
    with subscriber(stack, user) as listening:
        wanted = flap(user, "d", 1)
        write_tables()
        old_run()
        tell_users()
        assert listening.told(len(wanted)) == wanted
