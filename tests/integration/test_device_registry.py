"""The registry of devices: exact by what the tables and the topics say, whatever is lost meanwhile."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgpack
import pytest
import redis

from compose.local.stack import Stack
from tasks.alerts import rebuild
from tasks.devices import flush, pace, tables
from tasks.devices.activity import Activity
from tasks.devices.flush import WAS_FULL
from tasks.process import process_part
from tasks.register_devices import register as run_by_beat
from tasks.register_devices import tidy
from tasks.servers import database as tasks_database
from tasks.servers.redis_client import DEVICES_ACTIVE, DEVICES_READY, DEVICES_REST, client, lease_key
from tasks.servers.turns import TurnLost
from tasks.store import store_batch
from tests.integration import fleet, part_tasks
from tests.integration.changes import Database
from tests.integration.commands import sluice
from tests.integration.device_table import register, report_active
from tests.integration.stream import Written, reading


@pytest.fixture
def user() -> str:
    """A user that no other test has."""
    return f"u{uuid4().hex[:8]}"


def counts(database: Database, user: str) -> dict[str, tuple[int, int]]:
    """By device the readings and dead letters of all days."""
    rows = database.execute(
        "SELECT device_id, sum(messages), sum(dead_letters) FROM device_days WHERE user_id = %s GROUP BY 1",
        [user],
    )
    return {str(device): (int(messages), int(letters)) for device, messages, letters in rows.fetchall()}


def await_counted(stack: Stack, database: Database) -> None:
    """Returns when the registry has been counted: a batch that ends meanwhile may count twice."""
    server = redis.Redis.from_url(stack.env["REDIS_URL"])
    info: Any = server.info("server") | server.info("replication")
    run = f"{info['run_id']}/{info['master_replid']}".encode()
    counting = "SELECT FROM device_positions WHERE source LIKE 'rows/%' AND position -> 1 <> position -> 2"
    fleet.wait_until(
        lambda: server.get(DEVICES_READY) == run and database.execute(counting).fetchone() is None,
        120,
        "the registry to be counted",
    )
    server.close()


def shown(stack: Stack, user: str, device: str) -> dict[str, Any]:
    """What `sluice devices show --json` prints."""
    done = sluice(stack, "devices", "show", user, device, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.usefixtures("in_process")
def test_a_batch_counts_once_however_often_it_is_flushed(
    database: Database,
    user: str,
) -> None:
    """Its readings appear with the next run, and no later run adds them again."""
    rebuild.rebuild_states()
    register()
    batch, total = part_tasks.send(user, 20.0, 21.0, 22.0)
    part_tasks.work(batch, total)
    assert client().xlen(DEVICES_ACTIVE) >= 1
    register()
    assert counts(database, user) == {"d": (3, 0)}
    register()
    assert counts(database, user) == {"d": (3, 0)}
    ((last_seen, own_time, domain),) = database.execute(
        "SELECT last_seen, own_time, domain FROM devices WHERE user_id = %s", [user]
    ).fetchall()
    assert (last_seen, domain) == (own_time, "telemetry")


@pytest.mark.usefixtures("in_process")
def test_the_registry_of_many_devices_is_written_less_often(
    database: Database, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a run with many lines it rests, unless much waits; what comes meanwhile counts after that."""
    rebuild.rebuild_states()
    register()
    report_active(user, 3 * pace.LINES_A_SECOND)
    run_by_beat()
    assert len(counts(database, user)) == 3 * pace.LINES_A_SECOND
    assert 0 < client().pttl(DEVICES_REST) <= 3000
    batch, total = part_tasks.send(user, 20.0, 21.0)
    part_tasks.work(batch, total)
    run_by_beat()
    assert "d" not in counts(database, user)
    fleet.wait_until(lambda: not client().exists(DEVICES_REST), 30, "the end of the pause")
    run_by_beat()
    assert counts(database, user)["d"] == (2, 0)

    client().set(DEVICES_REST, 1, ex=60)
    batch, total = part_tasks.send(user, 20.0)
    part_tasks.work(batch, total)
    monkeypatch.setattr(pace, "MOST_WAITING_BYTES", 1)
    run_by_beat()
    assert counts(database, user)["d"] == (3, 0)
    client().delete(DEVICES_REST)


@pytest.mark.usefixtures("in_process")
def test_a_batch_that_was_given_up_does_not_count(
    database: Database,
    user: str,
) -> None:
    """It is sent again, and the run that is reported counts."""
    rebuild.rebuild_states()
    register()
    batch, total = part_tasks.send(user, 20.0)
    result = process_part(batch, 0)
    client().delete(lease_key(batch))
    store_batch(result, batch, 1, total, part_tasks.BRIDGE)
    register()
    assert counts(database, user) == {}
    again, total = part_tasks.send(user, 20.0)
    part_tasks.work(again, total)
    register()
    assert counts(database, user) == {"d": (1, 0)}


@pytest.mark.usefixtures("in_process")
def test_lost_activity_is_counted_from_the_rows(
    database: Database,
    user: str,
) -> None:
    """After a flush of Redis, and after there was more than the stream takes."""
    rebuild.rebuild_states()
    register()
    batch, total = part_tasks.send(user, 20.0, 21.0)
    part_tasks.work(batch, total)
    client().delete(DEVICES_ACTIVE, DEVICES_READY)
    register()
    assert counts(database, user) == {"d": (2, 0)}
    # By a sample of the oldest ones, all would count as small.
    for _ in range(300):
        client().xadd(DEVICES_ACTIVE, {"part": msgpack.packb(["x"])})
    for _ in range(70):
        client().xadd(DEVICES_ACTIVE, {"part": msgpack.packb(["x" * 2**20])})
    batch, total = part_tasks.send(user, 22.0, first_offset=2)
    part_tasks.work(batch, total)
    assert client().get(DEVICES_READY) == WAS_FULL
    register()
    assert counts(database, user) == {"d": (2, 0)}, "counted again too soon"
    database.execute(
        "UPDATE device_positions SET updated_at = now() - interval '11 min' WHERE source LIKE 'rows/%'"
    )
    register()
    assert counts(database, user) == {"d": (3, 0)}
    assert client().xlen(DEVICES_ACTIVE) <= 1


@pytest.mark.usefixtures("in_process")
def test_old_days_are_dropped(
    database: Database,
    user: str,
) -> None:
    """The table does not grow for ever; recent days stay."""
    database.execute(
        "INSERT INTO device_days (user_id, device_id, day, messages) SELECT %s, 'd', current_date - days, 1"
        " FROM unnest(ARRAY[1, 91]) AS days",
        [user],
    )
    tidy()
    assert counts(database, user) == {"d": (1, 0)}


@pytest.mark.usefixtures("beat")
def test_the_command_shows_what_devices_sent_and_what_was_refused(
    pipeline: Stack,
    database: Database,
    user: str,
) -> None:
    """Counts by device, the last refusal with its reason, the newest reading; longest silent first."""
    await_counted(pipeline, database)
    begun = datetime.now(UTC)
    written = Written(pipeline, user)
    written.write([reading(1, temperature=20.5), reading(2, temperature=21.5), b"[]"], "a")
    fleet.wait_until(lambda: counts(database, user).get("a") == (2, 1), 60, "the first device")
    written.write([reading(1)], "b")
    fleet.wait_until(lambda: counts(database, user).get("b") == (1, 0), 60, "the second device")

    listed = json.loads(sluice(pipeline, "devices", "list", "--user", user, "--json").stdout)
    assert [one["device_id"] for one in listed] == ["a", "b"]
    assert [(one["messages_today"], one["dead_letters_today"]) for one in listed] == [(2, 1), (1, 0)]
    found = shown(pipeline, user, "a")
    assert (found["refused_type"], found["latest"]["sequence_id"]) == ("NotAnObject", 2)
    assert found["latest"]["temperature"] == 21.5
    assert datetime.fromisoformat(found["first_seen"]) >= begun.replace(microsecond=0)
    plain = sluice(pipeline, "devices", "list", "--user", user)
    assert "today: readings 2, dead letters 1" in plain.stdout
    assert sluice(pipeline, "devices", "list", "--user", user, "--silent", "1h").stdout == ""


@pytest.mark.usefixtures("beat")
def test_a_device_that_is_forgotten_comes_back_when_it_sends(
    pipeline: Stack,
    database: Database,
    user: str,
) -> None:
    """Its rows stay; an unknown device is refused with the way to find the known ones."""
    await_counted(pipeline, database)
    written = Written(pipeline, user)
    written.write([reading(1)], "a")
    fleet.wait_until(lambda: bool(counts(database, user)), 60, "the device")
    done = sluice(pipeline, "devices", "forget", user, "a")
    assert done.returncode == 0, done.stderr
    unknown = sluice(pipeline, "devices", "show", user, "a")
    assert (unknown.returncode, "sluice devices list" in unknown.stderr) == (1, True)
    assert sluice(pipeline, "devices", "forget", user, "a").returncode == 1
    assert database.execute("SELECT count(*) FROM raw_telemetry WHERE user_id = %s", [user]).fetchone() == (
        1,
    )
    written.write([reading(2)], "a")
    fleet.wait_until(lambda: counts(database, user) == {"a": (1, 0)}, 60, "the device to come back")


@pytest.mark.usefixtures("in_process")
def test_a_worker_that_lost_its_turn_adds_nothing(database: Database, user: str) -> None:
    """Another one has added it: the position has moved on, and the transaction is undone."""
    register()
    one = Activity(user, "d", 20_000, 1, 1_728_000_000_000, 1_728_000_000_000, datetime.now(UTC))
    source = f"test-{user}"

    def add(before: str | None) -> None:
        with tasks_database.access() as connection, connection.transaction():
            tables.add_activity(connection, "telemetry", [one])
            tables.set_position(connection, source, before, "1-0")

    add(None)
    for before in (None, "0-5"):
        with pytest.raises(TurnLost):
            add(before)
    assert counts(database, user) == {"d": (1, 0)}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("device", ['say "hi"', r"back\slash", "{a,b}", "NULL", r"\"}", "Gewächshaus", ""])
def test_a_device_of_any_name_is_counted(database: Database, user: str, device: str) -> None:
    """Beside others in the same statement."""
    register()
    owner = f'{user} "{{\\'
    at = datetime(2024, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
    notes = [
        Activity(owner, name, 20_000, 2, 1_728_000_000_000, 1_728_000_000_007, at) for name in ("a", device)
    ]
    with tasks_database.access() as connection:
        tables.add_activity(connection, "telemetry", notes)
    assert counts(database, owner) == {"a": (2, 0), device: (2, 0)}
    row = database.execute(
        "SELECT own_time, last_seen - first_seen, clock_skew_ms FROM devices"
        " WHERE user_id = %s AND device_id = %s",
        [owner, device],
    ).fetchone()
    assert row == (at, timedelta(milliseconds=7), notes[1].skew_ms)
    assert notes[1].skew_ms < 0


@pytest.mark.usefixtures("in_process")
def test_a_count_goes_on_where_it_was_broken_off(
    database: Database, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run counts some days, the next run the days after; all of the first count's days are counted."""
    register()
    database.execute(
        "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id)"
        " VALUES (now() - interval '20 days', %s, 'd', 1)",
        [user],
    )
    database.execute("DELETE FROM device_positions WHERE source LIKE 'rows/%'")
    monkeypatch.setattr(flush, "COUNT_SECONDS", 0)
    register()
    assert counts(database, user) == {}
    monkeypatch.undo()
    register()
    assert counts(database, user) == {"d": (1, 0)}
