"""One user's alerts, however many or however bad, hold up nobody else's, and are bounded in bytes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from compose.local.stack import Stack
from tasks import publish_changes
from tasks.alerts import state_store
from tasks.outbox import deliver, failing, stream, tables
from tasks.outbox.entry import ENTRY_BYTES
from tasks.replay import dead_letters as replay_letters
from tasks.rules.machine import Changes
from tasks.rules.parsing import parse_rules
from tasks.rules.state import DeviceState
from tasks.servers.redis_client import OUTBOX, OUTBOX_BYTES, client
from tasks.settings import settings
from tests.conftest import DeadLetters
from tests.integration.changes import (
    Database,
    empty_outbox,
    flap,
    history,
    judge,
    observation,
    rows,
    tell_users,
    write_tables,
)
from tests.integration.fleet import wait_until
from tests.integration.subscriber import subscriber
from tests.stepping import step_all

# 40 rules with long messages, of which each reading of a burst flips all.
HEAVY = parse_rules(
    {
        "rules": [
            {
                "id": f"r{number}",
                "key": "temperature",
                "operator": ">",
                "threshold": 80,
                "message": "m" * 500,
            }
            for number in range(40)
        ]
    }
)


@pytest.fixture(autouse=True)
def own_outbox(in_process: None) -> Iterator[None]:  # noqa: ARG001 - it must come first
    """An outbox of the test's own."""
    with empty_outbox():
        yield


def mountain(user: str, readings: int = 40) -> int:
    """One burst of one device that flips every rule with each reading; returns how many changes it makes."""

    def decide(state: DeviceState) -> tuple[DeviceState, Changes]:
        burst = [observation((number, 90.0 - 70 * (number % 2))) for number in range(readings)]
        after, changes = step_all(state, HEAVY, burst)
        return after, tuple(changes)

    return len(state_store.transact([(user, "d")], decide))


@contextmanager
def trouble(database: Database, table: str, device: str, does: str) -> Iterator[None]:
    """The database does this instead of taking what is written about the device."""
    name = f"trouble_{uuid4().hex[:8]}"
    database.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.device_id = '{device}' THEN {does} END IF; RETURN NEW; END $$;"
        f"CREATE TRIGGER {name} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
    )
    try:
        yield
    finally:
        database.execute(f"DROP FUNCTION {name} CASCADE")


def test_a_burst_is_cut_into_small_entries_and_counted_by_user() -> None:
    """Delivered entries no longer count, and nothing is left in Redis."""
    user = uuid4().hex[:8]
    assert mountain(user) == 1600
    # Changes that a rebuild publishes again, for others, are not counted.
    sizes = [len(fields[b"entry"]) for _, fields in _stream() if fields.get(b"user") == user.encode()]
    assert max(sizes) <= ENTRY_BYTES + 200
    assert stream.backlog_bytes() == sum(sizes) == _bytes_of(user)
    tell_users()
    assert stream.backlog_bytes() == sum(sizes)
    write_tables()
    assert stream.backlog_bytes() == 0
    assert client().exists(OUTBOX_BYTES, "sluice:outbox:added", "sluice:outbox:written") == 0


def test_a_backlog_of_one_user_does_not_hold_up_another(
    stack: Stack, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's changes, which came later, are in the tables and published while most of it still waits."""
    monkeypatch.setattr(stream, "USER_BYTES", 200_000)
    loud, quiet = uuid4().hex[:8], uuid4().hex[:8]
    count = mountain(loud)
    wanted = flap(quiet, "d", 2)
    with subscriber(stack, quiet) as listening:
        deliver.await_written(60, stream.awaited({quiet}))
        tell_users()
        assert listening.told(4) == wanted
    write_tables()
    assert history(database, quiet) == wanted
    query = "SELECT count(*) FILTER (WHERE recorded_at > %s), count(*) FROM alert_history WHERE user_id = %s"
    (last,) = (
        database.execute("SELECT max(recorded_at) FROM alert_history WHERE user_id = %s", [quiet]).fetchone()
        or ()
    )
    later, whole = database.execute(query, [last, loud]).fetchone() or (0, 0)
    assert whole == count
    assert later > count / 2
    assert stream.backlog() == 0


def test_a_user_at_the_bound_is_named_until_the_backlog_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are not; when all is delivered, or Redis was flushed, nobody is."""
    loud, quiet = uuid4().hex[:8], uuid4().hex[:8]
    chosen = settings().model_copy(update={"outbox_max_user_bytes": 500_000})
    monkeypatch.setattr(stream, "settings", lambda: chosen)
    mountain(loud)
    flap(quiet, "d", 1)
    assert stream.users_at_bound({loud, quiet, "nobody"}) == {loud}
    stream.require_room()
    tell_users()
    write_tables()
    assert stream.users_at_bound({loud, quiet}) == frozenset()
    mountain(loud)
    client().flushall()
    assert stream.users_at_bound({loud, quiet}) == frozenset()
    assert stream.users_at_bound([]) == frozenset()


def test_an_outbox_full_of_bytes_takes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that would add to it waits until something was delivered."""
    chosen = settings().model_copy(update={"outbox_max_bytes": 500_000})
    monkeypatch.setattr(stream, "settings", lambda: chosen)
    mountain(uuid4().hex[:8])
    with pytest.raises(stream.OutboxFull):
        stream.require_room()
    tell_users()
    write_tables()
    stream.require_room()


def test_a_large_entry_of_an_older_version_is_delivered(stack: Stack, database: Database) -> None:
    """It had all changes of a device, each twice; it is written in several transactions."""
    user = uuid4().hex[:8]
    count = mountain(user, readings=20)
    entries = [json.loads(fields[b"entry"]) for _, fields in _stream()]
    client().delete(OUTBOX, OUTBOX_BYTES)
    whole: dict[str, Any] = {"user_id": user, "device_id": "d"} | {
        kind: [one for entry in entries for one in entry[kind]] for kind in ("changes", "written", "gone")
    }
    for change in whole["changes"]:
        change["notice"] = json.dumps({"device_id": "d", "status": change["record"]["status"]})
    client().xadd(OUTBOX, {"entry": json.dumps(whole)})
    with subscriber(stack, user) as listening:
        tell_users()
        write_tables()
        assert len(listening.told(count)) == count
    assert len(history(database, user)) == count
    assert stream.backlog() == 0


@pytest.mark.parametrize(
    ("does", "state"),
    [("PERFORM pg_sleep(60);", "57014"), ("RAISE EXCEPTION 'too much' USING ERRCODE = '54000';", "54000")],
)
def test_a_change_that_fails_again_and_again_becomes_a_dead_letter(
    database: Database, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch, does: str, state: str
) -> None:
    """Found among others by halving; those are in the tables at once, and what comes after it in the end."""
    monkeypatch.setattr(tables, "STATEMENT_SECONDS", 2)
    bad, good = uuid4().hex[:8], uuid4().hex[:8]
    with trouble(database, "alert_history", f"bad-{bad}", does):
        judge(bad, f"bad-{bad}", (1, 90.0))
        wanted = flap(good, "d", 5)
        deliver.await_written(60, stream.awaited({good}))
        assert history(database, good) == wanted
        assert stream.users_at_bound({bad, good}) == {bad}
        wanted += flap(good, "d", 1, start=10)
        deliver.await_written(60, stream.awaited({good}))
        wait_until(lambda: not _deliver(bad), 120, "the change to be given up")
    letters = about(dead_letters, bad)
    assert [letter["error_type"] for letter in letters] == ["AlertRefused"]
    assert state in letters[0]["error"]
    assert history(database, good) == wanted
    assert rows(database, bad) == [(f"bad-{bad}", "TRIGGERED", 90.0, 1)]
    assert stream.users_at_bound({bad}) == frozenset()


def _stream() -> Any:
    return client().xrange(OUTBOX)


def _bytes_of(user: str) -> int:
    size: Any = client().hget(OUTBOX_BYTES, user)
    return int(size or 0)


def about(dead_letters: DeadLetters, user: str) -> list[dict[str, Any]]:
    """The dead letters about the user's alerts."""
    return [letter for _, letter in dead_letters.read() if letter["original_topic"] == f"users/{user}/alerts"]


def _deliver(user: str) -> frozenset[str]:
    publish_changes.deliver_database()
    return stream.users_at_bound({user})


def test_an_outage_makes_no_dead_letter(
    database: Database, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the table takes nothing at all, nothing counts as failed."""
    monkeypatch.setattr(tables, "STATEMENT_SECONDS", 1)
    user = uuid4().hex[:8]
    judge(user, "d", (1, 90.0))
    with database.transaction():
        database.execute("LOCK TABLE alert_history")
        for _ in range(4):
            publish_changes.deliver_database()
    assert failing.known() == {}
    write_tables()
    assert history(database, user) == [("d", "TRIGGERED")]
    assert about(dead_letters, user) == []


def test_a_refused_change_is_replayed_into_its_table_alone(
    database: Database, dead_letters: DeadLetters
) -> None:
    """Once the database takes it; a state of the alert that is newer than its row stays."""
    user = uuid4().hex[:8]
    raises = "RAISE EXCEPTION 'no' USING ERRCODE = '23514';"
    with trouble(database, "alert_history", "dev", raises), trouble(database, "active_alerts", "dev", raises):
        judge(user, "dev", (1, 90.0))
        write_tables()
    assert [letter["error_type"] for letter in about(dead_letters, user)] == ["AlertRefused"] * 2
    assert history(database, user) == rows(database, user) == []
    judge(user, "dev", (2, 91.0))
    write_tables()
    arguments = {"user": user, "limit": 10}
    report = replay_letters.apply(kwargs=arguments, task_id=uuid4().hex).get()
    assert (report["replayed"], report["selected"]) == (2, 2)
    assert history(database, user) == [("dev", "TRIGGERED")]
    assert rows(database, user) == [("dev", "TRIGGERED", 91.0, 2)]
    found = database.execute("SELECT FROM raw_telemetry WHERE user_id = %s", [user]).fetchall()
    assert found == []
    again = replay_letters.apply(kwargs=arguments, task_id=uuid4().hex).get()
    assert (again["replayed"], again["replayed_before"]) == (0, 2)
