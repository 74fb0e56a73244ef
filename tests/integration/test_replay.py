"""Replay: what was refused goes through the pipeline again; any stretch of the topic can run once more."""

import json
import operator
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis

from compose.local.stack import Stack
from tasks.replays import dead_letters as work
from tasks.replays import runs
from tasks.servers.redis_client import LAST_SEEN
from tests.conftest import DeadLetters
from tests.integration import fleet
from tests.integration.announced import announced
from tests.integration.commands import call, report, sluice
from tests.integration.lag import wait_for_no_lag
from tests.integration.stream import Written, cold_only, reading, replayed, sequence_ids

Database = psycopg.Connection[tuple[Any, ...]]

pytestmark = pytest.mark.usefixtures("on_servers")


@pytest.fixture
def user() -> str:
    """A user that no other test has."""
    return f"u{uuid4().hex[:8]}"


def letters_of(dead_letters: DeadLetters, user: str) -> list[tuple[str, dict[str, Any]]]:
    """Key and envelope of the user's dead letters, in the order of the keys: the partitions have none."""
    found = dead_letters.read()
    ours = [(key.decode(), letter) for key, letter in found if f"/{user}/" in letter["original_topic"]]
    return sorted(ours, key=operator.itemgetter(0))


def replay(stack: Stack, user: str, **kwargs: Any) -> dict[str, Any]:
    """Replays the user's dead letters by `celery call`, up to their outcomes; returns the report."""
    found = report(stack, call(stack, "tasks.replay.dead_letters", user=user, **kwargs))
    wait_for_no_lag(stack)
    return found


def test_after_a_schema_fix_dead_letters_become_rows(
    pipeline: Stack, database: Database, dead_letters: DeadLetters, user: str
) -> None:
    """A row that the database refused is stored once the table can hold it, with its first arrival time."""
    written = Written(pipeline, user)
    with cold_only(database, user):
        written.write([reading(n, temperature=n) for n in range(90, 120)])
        written.write([b'{"sequence_id": 500, "temperature": 500}'], "clockless")
    letters = letters_of(dead_letters, user)
    assert {letter["error_type"] for _, letter in letters} == {"DatabaseRefused"}
    assert len(letters) == 21
    assert sequence_ids(database, user) == list(range(90, 100))
    (arrived_ms,) = [one["kafka_timestamp_ms"] for _, one in letters if "clockless" in one["original_topic"]]

    found = replay(pipeline, user, error_type="DatabaseRefused")
    assert (found["replayed"], found["ended"]) == (21, True)
    assert sequence_ids(database, user) == [*range(90, 120), 500]
    (time_stored,) = database.execute(
        "SELECT time FROM raw_telemetry WHERE user_id = %s AND device_id = 'clockless'", [user]
    ).fetchone() or (None,)
    assert time_stored == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=arrived_ms)

    again = replay(pipeline, user)
    assert (again["replayed"], again["replayed_before"]) == (0, 21)
    assert len(letters_of(dead_letters, user)) == 21


def test_what_is_refused_again_has_one_attempt_more_and_stays_after_three(
    pipeline: Stack, dead_letters: DeadLetters, user: str
) -> None:
    """No letter goes round for ever: after three refusals only a forced replay takes it."""
    Written(pipeline, user).write([b'{"sequence_id": "one"}'])
    for attempts in (2, 3):
        assert replay(pipeline, user)["replayed"] == 1
        assert max(letter["attempts"] for _, letter in letters_of(dead_letters, user)) == attempts
    found = replay(pipeline, user)
    assert (found["selected"], found["too_many_attempts"], found["replayed_before"]) == (0, 1, 2)
    assert replay(pipeline, user, force=True)["replayed"] == 1
    letters = letters_of(dead_letters, user)
    assert sorted(letter["attempts"] for _, letter in letters) == [1, 2, 3, 4]
    assert {letter["payload_base64"] for _, letter in letters} == {letters[0][1]["payload_base64"]}
    assert len({key for key, _ in letters}) == 4


def test_a_limit_takes_the_oldest_and_the_next_call_the_next(
    pipeline: Stack, database: Database, user: str
) -> None:
    """Calls with a limit work through what there is, and a dry run only counts."""
    with cold_only(database, user):
        Written(pipeline, user).write([reading(n, temperature=200) for n in range(10)])
    dry = replay(pipeline, user, dry_run=True, limit=4)
    assert (dry["selected"], dry["left"], sequence_ids(database, user)) == (4, 6, [])
    assert replay(pipeline, user, limit=4)["replayed"] == 4
    assert sequence_ids(database, user) == [0, 1, 2, 3]
    assert replay(pipeline, user, limit=100)["replayed"] == 6
    assert sequence_ids(database, user) == list(range(10))


def test_a_replay_raises_no_alerts_unless_asked_to(pipeline: Stack, database: Database, user: str) -> None:
    """A silent replay is judged by no rule and is not a life sign; one with alerts is judged as it comes."""
    with cold_only(database, user):
        for device in ("silent", "loud"):
            Written(pipeline, user).write([reading(1, temperature=200)], device)
    with announced(pipeline):
        database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)",
            [user, json.dumps([{"key": "temperature", "operator": ">", "threshold": 50, "message": "hot"}])],
        )
    with redis.Redis.from_url(pipeline.env["REDIS_URL"]) as client:
        client.zrem(LAST_SEEN, f"{user}/silent", f"{user}/loud")
        assert replay(pipeline, user, device="silent")["replayed"] == 1
        assert replay(pipeline, user, device="loud", alerts=True)["replayed"] == 1
        assert client.zscore(LAST_SEEN, f"{user}/silent") is None
        assert client.zscore(LAST_SEEN, f"{user}/loud") is not None
    told = "SELECT device_id, status FROM alert_history WHERE user_id = %s"
    fleet.wait_until(lambda: bool(database.execute(told, [user]).fetchall()), 30, "the alert")
    assert database.execute(told, [user]).fetchall() == [("loud", "TRIGGERED")]
    assert sequence_ids(database, user) == [1, 1]


def test_who_goes_on_after_a_death_replays_nothing_twice(
    pipeline: Stack, database: Database, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the worker died after Kafka had taken messages and before it had noted so."""
    count = 2 * work.CHUNK_LETTERS + 100
    with cold_only(database, user):
        Written(pipeline, user).write([reading(n, temperature=200) for n in range(count)])
    run_id = str(uuid4())
    runs.begin(database, run_id, "dead_letters", {"filters": {"user": user}, "limit": count})
    confirm, calls = work._confirm, []

    def die(held: runs.Held, places: dict[Any, Any]) -> None:
        calls.append(len(places))
        if len(calls) == 2:
            raise SystemExit
        confirm(held, places)

    first = runs.take(run_id, "first")
    assert first is not None
    monkeypatch.setattr(work, "_confirm", die)
    with pytest.raises(SystemExit):
        work.replay(first)
    monkeypatch.undo()
    assert calls == [work.CHUNK_LETTERS] * 2
    assert runs.take(run_id, "second") is None, "the first one may still be at it"

    # As after the time that the first had, and with Redis flushed meanwhile.
    database.execute("UPDATE replays SET owned_until = now() - interval '1 s' WHERE run_id = %s", [run_id])
    with redis.Redis.from_url(pipeline.env["REDIS_URL"]) as client:
        client.flushall()
    call(pipeline, "tasks.replay.go_on")

    def ended() -> bool:
        run = runs.read(database, run_id)
        return run is not None and run.ended_at is not None

    fleet.wait_until(ended, 60, "the run to end")
    with pytest.raises(runs.RunLost):
        first.save(database)
    wait_for_no_lag(pipeline)
    counted = replayed(user)
    assert (len(counted), set(counted.values())) == (count, {1})
    assert sequence_ids(database, user) == list(range(count))


def test_a_killed_worker_loses_and_doubles_no_replay(pipeline: Stack, database: Database, user: str) -> None:
    """SIGKILL of the worker and its children in mid-run: another goes on, and each letter goes once."""
    count = 5 * work.CHUNK_LETTERS
    with cold_only(database, user):
        Written(pipeline, user).write(
            [reading(n % 3600, n=n, sequence_id=n, temperature=200) for n in range(count)]
        )
    run_id = call(pipeline, "tasks.replay.dead_letters", user=user)

    def begun() -> bool:
        run = runs.read(database, run_id)
        return run is not None and run.counts.get("replayed", 0) > 0

    fleet.wait_until(begun, 60, "the first letters to be replayed")
    worker = pipeline.pid("worker")
    for pid in (worker, *fleet.children(worker)):
        fleet.kill(pid)
    pipeline.up(("worker",))
    database.execute("UPDATE replays SET owned_until = now() - interval '1 s' WHERE run_id = %s", [run_id])
    call(pipeline, "tasks.replay.go_on")
    fleet.wait_until(
        lambda: (run := runs.read(database, run_id)) is not None and run.ended_at is not None, 90, "the end"
    )
    wait_for_no_lag(pipeline)
    counted = replayed(user)
    assert (len(counted), set(counted.values())) == (count, {1})
    assert len(sequence_ids(database, user)) == count


def test_a_range_runs_again_and_changes_nothing_that_is_in_order(
    pipeline: Stack, database: Database, dead_letters: DeadLetters, user: str
) -> None:
    """Rows that are gone come back; rows and dead letters that are there are not doubled; Kafka stays."""
    written = Written(pipeline, user)
    written.write([reading(n) if n % 10 else b"no json" for n in range(50)])
    (partition,) = {partition for partition, _ in written.places}
    start, end = min(written.places)[1], max(written.places)[1] + 1
    good = [n for n in range(50) if n % 10]
    database.execute("DELETE FROM raw_telemetry WHERE user_id = %s AND sequence_id < 20", [user])
    before = letters_of(dead_letters, user)
    for inserted in (18, 0):
        done = report(
            pipeline, call(pipeline, "tasks.replay.offsets", partition=partition, start=start, end=end)
        )
        assert (done["done"], done["inserted"], done["dead_before"]) == (50, inserted, 5)
        assert (done["dead_lettered"], done["there_already"]) == (0, 45 - inserted)
    assert sequence_ids(database, user) == good
    assert letters_of(dead_letters, user) == before
    assert not replayed(user)
    # Never beyond what the bridge has committed, and an end beyond it is not an error.
    far = report(pipeline, call(pipeline, "tasks.replay.offsets", partition=partition, start=end, end=10**12))
    assert far["messages"] == 0


def test_a_range_runs_again_by_a_command(pipeline: Stack, database: Database, user: str) -> None:
    """`sluice replay` waits for the end, says what it did, and refuses at once what is not a range."""
    written = Written(pipeline, user)
    begin = datetime.now(UTC).isoformat()
    written.write([reading(n) for n in range(10)])
    (partition,) = {partition for partition, _ in written.places}
    reach = [str(number) for number in (partition, min(written.places)[1], max(written.places)[1] + 1)]
    database.execute("DELETE FROM raw_telemetry WHERE user_id = %s AND sequence_id < 3", [user])
    counted = sluice(pipeline, "replay", "offsets", *reach, "--dry-run")
    assert counted.stdout == "10 records would be replayed\n", counted.stderr
    assert sequence_ids(database, user) == list(range(3, 10))
    done = sluice(pipeline, "replay", "offsets", *reach)
    assert done.stdout.splitlines()[:2] == ["10 records replayed", "        3  rows that were missing"]
    assert sequence_ids(database, user) == list(range(10))
    again = json.loads(sluice(pipeline, "replay", "times", "--since", begin, "--json").stdout)
    assert again["there_already"] >= 10
    audit = "SELECT count(*) FROM operator_audit WHERE after ->> 'partition' = %s AND action = 'REPLAY'"
    (noted,) = database.execute(audit, [str(partition)]).fetchone() or (0,)
    assert noted >= 1
    for wrong, said in {
        ("offsets", "10000", "0", "1"): "has no partition 10000",
        ("offsets", "0", "5", "5"): "5 to 5 is not a range of offsets",
        ("offsets", "0", "1000000000", "1000000001"): "nothing from 1000000000 to 1000000001",
        ("times", "--since", "1h", "--until", "2h"): "must be before --until",
    }.items():
        refused = sluice(pipeline, "replay", *wrong)
        assert refused.returncode == 1
        assert said in refused.stderr


def test_a_stretch_of_time_runs_again_after_a_schema_fix(
    pipeline: Stack, database: Database, dead_letters: DeadLetters, user: str
) -> None:
    """Messages whose dead letters would become rows now do, and their letters are open no longer."""
    begin = datetime.now(UTC)
    with cold_only(database, user):
        for device in ("a", "b", "c"):
            Written(pipeline, user).write([reading(1, temperature=200), b"[]"], device)
    done = report(pipeline, call(pipeline, "tasks.replay.times", start=begin.isoformat()))
    assert sequence_ids(database, user) == [1, 1, 1]
    assert done["no_longer_dead"] >= 3
    assert len(letters_of(dead_letters, user)) == 6
    found = replay(pipeline, user, dry_run=True)
    assert (found["selected"], found["replayed_before"]) == (3, 3)


def test_a_partition_that_the_topic_lacks_ends_the_run_with_the_reason(
    pipeline: Stack, database: Database
) -> None:
    """Another attempt would find no such partition either, so the run is not tried again."""
    run_id = call(pipeline, "tasks.replay.offsets", partition=10_000, start=0, end=1)
    deadline = time.monotonic() + 60
    while (run := runs.read(database, run_id)) is None or run.ended_at is None:
        assert time.monotonic() < deadline, "the run has not ended"
        time.sleep(0.1)
    assert run.error is not None
    assert "has no partition 10000" in run.error
