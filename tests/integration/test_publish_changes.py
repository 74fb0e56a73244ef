"""Notices of alerts: in order, each once, for the broker and the database separately, whatever dies."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tasks import publish_changes
from tasks.outbox import deliver, publisher, stream, writing
from tasks.servers import backoff, turns
from tasks.servers.redis_client import OUTBOX, OUTBOX_REFUSED, client
from tasks.settings import settings
from tests.conftest import DeadLetters
from tests.integration import forked
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
from tests.integration.fleet import wait_until
from tests.integration.subscriber import subscriber

PROJECT = Path(publish_changes.__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def own_outbox(in_process: None) -> Iterator[None]:  # noqa: ARG001 - it must come first
    """An outbox of the test's own."""
    with empty_outbox():
        yield


def run_in_worker(stack: Stack, code: str) -> int:
    """Runs the code in a process of its own; returns how it ended."""
    environment = {**os.environ, **process_environment(stack.env)}
    prelude = """
import os, signal
from tasks import publish_changes
from tasks.outbox import stream
from tasks.servers import turns
turns.TURN_SECONDS = 4.0
"""
    return forked.run("-c", prelude + code, env=environment, cwd=PROJECT).returncode


def in_threads(*work: Callable[[], None]) -> None:
    """Does it all at once."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_users_are_told_in_order_and_the_tables_say_the_same(
    stack: Stack, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More changes than one reading of the outbox takes, of several devices; then nothing is left."""
    # Notices that a broker on a busy machine acknowledges too late are published again.
    monkeypatch.setattr(publisher, "publish", partial(publisher.publish, seconds=60))
    user = uuid4().hex[:8]
    with subscriber(stack, user) as listening:
        wanted = [flap(user, "d1", 130), flap(user, "d2", 30)]
        judge(user, "d3", (1, 90.0), (2, 95.5))
        tell_users()
        write_tables()
        told = listening.told(321)
    assert [one for one in told if one[0] == "d1"] == wanted[0]
    assert [one for one in told if one[0] == "d2"] == wanted[1]
    assert told[320:] == [("d3", "TRIGGERED")]
    assert history(database, user) == [*wanted[0], *wanted[1], ("d3", "TRIGGERED")]
    assert rows(database, user) == [("d3", "TRIGGERED", 95.5, 2)]
    assert stream.backlog() == 0


def test_the_notice_and_the_history_have_all_that_there_is_to_say(stack: Stack, database: Database) -> None:
    """Both name the alert by the same id; where the change came from stands in the history."""
    user = uuid4().hex[:8]
    with subscriber(stack, user) as listening:
        judge(user, "d", (7, 90.25))
        tell_users()
        write_tables()
        listening.told(1)
    columns = 'alert_id, value, threshold, kafka_partition, kafka_offset, "by"'
    query = f"SELECT {columns} FROM alert_history WHERE user_id = %s"
    ((alert_id, *rest),) = database.execute(query, [user]).fetchall()
    assert rest == [90.25, 80, 0, 7, None]
    (notice,) = listening.notices
    assert notice["alert_id"] == alert_id
    assert (notice["value"], notice["threshold"], notice["sequence_id"]) == (90.25, 80, 7)
    assert (notice["time"], notice["first_seen"], notice["count"]) == (
        "2026-05-01T10:00:07Z",
        "2026-05-01T10:00:07Z",
        1,
    )


def test_a_row_goes_with_its_alert(database: Database) -> None:
    """Also when both are delivered together, and a new alert writes a new row."""
    user = uuid4().hex[:8]
    judge(user, "d", (1, 90.0))
    write_tables()
    judge(user, "d", (2, 91.0))
    write_tables()
    assert rows(database, user) == [("d", "TRIGGERED", 91.0, 2)]
    judge(user, "d", (3, 20.0))
    write_tables()
    assert rows(database, user) == []
    flap(user, "d", 3, start=2)
    judge(user, "d", (20, 99.0))
    write_tables()
    assert rows(database, user) == [("d", "TRIGGERED", 99.0, 1)]


def test_a_worker_killed_after_publishing_loses_nothing(stack: Stack, database: Database) -> None:
    """Unacknowledged changes are published again under the same ids, in the same order; the rest once."""
    user = uuid4().hex[:8]
    wanted = flap(user, "d", 3)
    with subscriber(stack, user) as listening:
        dies = "stream._acknowledge = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        assert run_in_worker(stack, dies + "publish_changes.deliver_mqtt()") == -signal.SIGKILL
        assert run_in_worker(stack, dies + "publish_changes.deliver_database()") == -signal.SIGKILL
        assert listening.told(6) == wanted
        wanted += flap(user, "d", 1, start=3)
        wait_until(
            lambda: not client().exists("sluice:turn:notify:mqtt", "sluice:turn:notify:database"), 30, "turns"
        )
        tell_users()
        write_tables()
        assert listening.told(14) == [*wanted[:6], *wanted]
    ids = [(notice["alert_id"], notice["status"]) for notice in listening.notices]
    assert ids[:6] == ids[6:12]
    assert len(set(ids)) == 8
    assert history(database, user) == wanted
    assert stream.backlog() == 0


def test_a_worker_killed_before_publishing_loses_nothing(stack: Stack) -> None:
    """Changes that it had read and not published are published first by the next one."""
    user = uuid4().hex[:8]
    wanted = flap(user, "d", 2)
    dies = "stream._deliver = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    assert run_in_worker(stack, dies + "publish_changes.deliver_mqtt()") == -signal.SIGKILL
    wanted += flap(user, "d", 1, start=2)
    wait_until(lambda: not client().exists("sluice:turn:notify:mqtt"), 30, "the turn")
    with subscriber(stack, user) as listening:
        tell_users()
        assert listening.told(6) == wanted


def test_a_worker_that_was_held_up_writes_nothing_old(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notices before its commit that others have gone on without it."""
    user = uuid4().hex[:8]
    judge(user, "d", (1, 90.0))
    stale: list[list[stream.Entry]] = []
    write = writing.write

    def held_up(entries: list[stream.Entry], turn: turns.Turn) -> list[stream.Entry]:
        stale.append(entries)
        client().delete("sluice:turn:notify:database")
        monkeypatch.setattr(writing, "write", write)
        judge(user, "d", (2, 20.0))
        write_tables()
        return write(entries, turn)

    monkeypatch.setattr(writing, "write", held_up)
    write_tables()
    assert len(stale) == 1
    assert rows(database, user) == []
    assert history(database, user) == [("d", "TRIGGERED"), ("d", "RESOLVED")]
    assert stream.backlog() in {0, 1, 2}


def test_many_workers_at_once_tell_each_change_once(stack: Stack) -> None:
    """However many tasks run, one delivers, and none of what was added meanwhile is left behind."""
    user = uuid4().hex[:8]
    wanted = flap(user, "d", 20)
    with subscriber(stack, user) as listening:
        in_threads(*[publish_changes.deliver_mqtt] * 4, lambda: wanted.extend(flap(user, "d", 20, start=20)))
        tell_users()
        assert listening.told(80) == wanted
        listening.told(80)
    assert len(listening.notices) == 80


def test_a_broker_that_is_down_does_not_hold_up_the_tables(stack: Stack, database: Database) -> None:
    """The changes are in the tables at once, and with the users when the broker is back."""
    user = uuid4().hex[:8]
    with subscriber(stack, user) as listening:
        stack.stop("mosquitto")
        try:
            wanted = flap(user, "d", 2)
            publish_changes.deliver_mqtt()
            assert backoff.rests("notify:mqtt")
            write_tables()
            assert history(database, user) == wanted
            assert stream.backlog() == 4
        finally:
            stack.start("mosquitto")
    with subscriber(stack, user) as listening:
        tell_users()
        assert listening.told(4) == wanted
    assert stream.backlog() == 0


def test_a_database_that_is_down_does_not_hold_up_the_users(stack: Stack) -> None:
    """They are published at once, and the tables have it when the database is back."""
    user = uuid4().hex[:8]
    with subscriber(stack, user) as listening:
        wanted = flap(user, "d", 2)
        stack.stop("postgres")
        try:
            publish_changes.deliver_database()
            publish_changes.deliver_mqtt()
            assert listening.told(4) == wanted
            assert stream.backlog() == 4
        finally:
            stack.start("postgres")
    write_tables()
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as database:
        assert history(database, user) == wanted
    assert stream.backlog() == 0


def test_a_broker_that_goes_away_in_between_is_found_again(stack: Stack) -> None:
    """The kept connection is of no use after the broker's restart; the next delivery makes a new one."""
    user = uuid4().hex[:8]
    wanted = flap(user, "d", 1)
    publish_changes.deliver_mqtt()
    stack.restart("mosquitto")
    with subscriber(stack, user) as listening:
        wanted = flap(user, "d", 1, start=1)
        for _ in range(2):
            wait_until(lambda: not backoff.rests("notify:mqtt"), 15, "the next attempt")
            publish_changes.deliver_mqtt()
        assert listening.told(2) == wanted


def test_what_can_never_be_delivered_is_put_aside(
    stack: Stack, database: Database, dead_letters: DeadLetters
) -> None:
    """With its reason, and without holding up what comes after it."""
    user = uuid4().hex[:8]
    client().xadd(OUTBOX, {"entry": "no JSON"})
    client().xadd(OUTBOX, {"entry": json.dumps({"user_id": user, "device_id": "d"})})
    judge(user, "d", (1, 90.0))
    newest: Any = client().xrevrange(OUTBOX, count=1)
    broken = json.loads(newest[0][1][b"entry"])
    broken["changes"][0]["record"]["status"] = "NONSENSE"
    broken["written"] = []
    client().xadd(OUTBOX, {"entry": json.dumps(broken)})
    wanted = [("d", "TRIGGERED"), *flap(user, "d2", 1)]
    with subscriber(stack, user) as listening:
        tell_users()
        write_tables()
        assert listening.told(4) == [wanted[0], ("d", "NONSENSE"), *wanted[1:]]
    assert history(database, user) == wanted
    refused: Any = client().xrange(OUTBOX_REFUSED)
    assert sorted(fields[b"group"] for _, fields in refused) == [b"database"] + [b"mqtt"] * 2
    letters = [letter for _, letter in dead_letters.read()]
    assert [letter["error_type"] for letter in letters] == ["AlertRefused"] * 2
    assert any("23514" in letter["error"] for letter in letters)
    assert stream.backlog() == 0


def test_a_full_outbox_takes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that would add to it has to wait until something was delivered."""
    user = uuid4().hex[:8]
    flap(user, "d", 2)
    chosen = settings().model_copy(update={"outbox_max_entries": 4})
    monkeypatch.setattr(stream, "settings", lambda: chosen)
    with pytest.raises(stream.OutboxFull):
        stream.require_room()
    tell_users()
    write_tables()
    stream.require_room()


def test_one_task_at_most_waits_to_deliver(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often there is something new; once it has begun, the next may be sent."""
    sent: list[str] = []
    monkeypatch.setattr(publish_changes.deliver_mqtt, "apply_async", lambda *_, **__: sent.append("mqtt"))
    monkeypatch.setattr(
        publish_changes.deliver_database, "apply_async", lambda *_, **__: sent.append("database")
    )
    deliver.wake()
    deliver.wake()
    assert sent == ["mqtt", "database"]
    publish_changes.deliver_mqtt()
    deliver.wake()
    assert sent == ["mqtt", "database", "mqtt"]


def test_without_redis_nothing_is_woken_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is done by then; the sweep delivers it."""

    def away() -> redis.Redis:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(deliver, "client", away)
    deliver.wake()
