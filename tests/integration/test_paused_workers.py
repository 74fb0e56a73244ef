"""Workers that are suspended in the middle of their work, and workers of another version, do no harm."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.alerts import rebuild
from tasks.apply_rules import apply_rules
from tasks.batch import marks
from tasks.errors import NotNow
from tasks.outbox import entry, tables
from tasks.process import process_part
from tasks.rebuild import rebuild_all
from tasks.servers.redis_client import ALERTS_REBUILDING, OUTBOX, WORKERS, alert_key, client, text
from tasks.servers.rules_version import announce_change
from tests.integration.changes import Database, empty_outbox, history, judge, rows, write_tables
from tests.integration.fleet import wait_until
from tests.integration.part_tasks import RULES, send, work


@pytest.fixture(autouse=True)
def outbox(in_process: None) -> Iterator[None]:  # noqa: ARG001 - it must come first
    """An outbox of the test's own, and no worker that said what it is."""
    client().delete(WORKERS)
    with empty_outbox():
        yield


@pytest.fixture
def user(database: Database) -> str:
    """A user with a rule."""
    name = uuid4().hex[:8]
    database.execute("INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)", [name, json.dumps(RULES)])
    announce_change()
    return name


@contextmanager
def paused(name: str, user: str) -> Iterator[Callable[[], int]]:
    """Another worker, stopped in the middle; what is called lets it go on, and returns its exit status."""
    command = [sys.executable, "-m", "tests.integration.paused", name, user]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: _is_stopped(process), 60, "the worker to stop")

        def go_on() -> int:
            process.send_signal(signal.SIGCONT)
            return process.wait(60)

        yield go_on
    finally:
        process.kill()
        process.wait()


def _is_stopped(process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "the worker ended before it stopped"
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def test_a_paused_worker_does_not_commit_by_rules_that_were_replaced(user: str, database: Database) -> None:
    """It decides again, by the rules of now."""
    with paused("commit", user) as go_on:
        database.execute("UPDATE user_configs SET rules = '[]' WHERE user_id = %s", [user])
        announce_change()
        apply_rules([user])
        assert go_on() == 0
    assert client().get(alert_key(user, "d")) is None
    write_tables()
    assert history(database, user) == []


def test_a_change_of_others_rules_does_not_hold_a_decision_up(user: str, database: Database) -> None:
    """It is decided again in the same way, and committed."""
    with paused("commit", user) as go_on:
        announce_change()
        assert go_on() == 0
    write_tables()
    assert history(database, user) == [("d", "TRIGGERED")]


def test_a_paused_rebuild_does_not_wipe_newer_states(user: str, database: Database) -> None:
    """Another worker's rebuild has come before it, and changes after that."""
    judge(user, "other", (1, 90.0))
    write_tables()
    with paused("rebuild", user) as go_on:
        # As after the time for which the lock lasts.
        client().delete(ALERTS_REBUILDING)
        judge(user, "d", (1, 90.0))
        assert go_on() != 0
    assert client().get(alert_key(user, "d")) is not None
    assert judge(user, "d", (2, 91.0)) == ()
    write_tables()
    assert rows(database, user) == [("d", "TRIGGERED", 91.0, 2), ("other", "TRIGGERED", 90.0, 1)]


def test_a_rebuild_keeps_its_lock_for_as_long_as_it_takes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow database is not a reason for others to begin, too."""
    monkeypatch.setattr(rebuild, "LOCK_SECONDS", 1.0)
    thread = threading.Thread(target=rebuild_all)
    with database.transaction():
        database.execute("LOCK TABLE active_alerts IN ACCESS EXCLUSIVE MODE")
        thread.start()
        wait_until(lambda: bool(client().exists(ALERTS_REBUILDING)), 10, "the lock")
        token = client().get(ALERTS_REBUILDING)
        time.sleep(2.5)
        assert client().get(ALERTS_REBUILDING) == token
    thread.join(30)
    assert not client().exists(ALERTS_REBUILDING)


def test_a_rebuild_sees_the_tables_at_one_moment(user: str, database: Database) -> None:
    """A worker commits an alert that Redis has lost: its row and its history are read both, or neither."""
    judge(user, "d", (1, 90.0))
    kept: Any = client().xrange(OUTBOX)
    entries = [entry.parse(text(name), fields[b"entry"]) for name, fields in kept]
    client().delete(OUTBOX)
    thread = threading.Thread(target=rebuild_all)
    with database.transaction():
        tables.write(database, entries, lambda: None)
        # A rebuild that reads the rows gets no further than the history.
        database.execute("LOCK TABLE alert_history IN ACCESS EXCLUSIVE MODE")
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: database.execute(waiting).fetchall() == [(1,)], 10, "the rebuild to wait")
    thread.join(30)
    # The batch is sent again.
    judge(user, "d", (1, 90.0), (2, 20.0))
    write_tables()
    assert history(database, user) == [("d", "TRIGGERED"), ("d", "RESOLVED")]


def test_a_state_of_another_version_is_read_later_by_who_can(user: str) -> None:
    """While a worker of that version runs the batch is handed back, and nothing is held against it."""
    assert work(*send(user, 20.0)) == "1"
    client().set(alert_key(user, "d"), b"\x09of another version")
    seen = {"queued": 0, "taken": 0, "busy": False, "deaf_s": 0.0, "states": 9, "at": time.time()}
    client().hset(WORKERS, "newer", json.dumps(seen))
    batch, _ = send(user, 90.0, first_offset=1)
    with pytest.raises(NotNow):
        process_part(batch, 0)
    assert marks.read(batch) is None
    assert client().get(alert_key(user, "d")) == b"\x09of another version"
    # The next test's workers must not wait for one that can read it.
    client().delete(alert_key(user, "d"), WORKERS)


def test_states_of_a_version_that_is_gone_are_rebuilt(user: str, database: Database) -> None:
    """After a rollback nobody can read them: what the tables have counts, and the alert is published once."""
    judge(user, "other", (1, 90.0))
    write_tables()
    for device in ("d", "other"):
        client().set(alert_key(user, device), b"\x09of another version")
    assert work(*send(user, 90.0)) == "1"
    assert judge(user, "other", (2, 91.0)) == ()
    write_tables()
    assert history(database, user) == [("d", "TRIGGERED"), ("other", "TRIGGERED")]
