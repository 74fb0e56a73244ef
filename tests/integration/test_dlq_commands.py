"""`sluice dlq`, as an operator runs it."""

import json
import time
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tests.integration import fleet
from tests.integration.commands import call, sluice
from tests.integration.stream import Written, cold_only, reading, sequence_ids

Database = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def user() -> str:
    """A user that no other test has."""
    return f"u{uuid4().hex[:8]}"


def listed(stack: Stack, user: str, *arguments: str) -> dict[str, Any]:
    """What `sluice dlq list --json` says of the user."""
    done = sluice(stack, "dlq", "list", "--user", user, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_dead_letters_are_listed_with_their_reason_and_counted_by_error_type(
    pipeline: Stack, user: str
) -> None:
    """Filters narrow the list down, and the newest come last; a terminal gets no control characters."""
    written = Written(pipeline, user)
    written.write([b"{}", b"[]", b"[]", reading(1)], "d1")
    written.write([b"\x1b[2Jnot json"], "d2")
    found = listed(pipeline, user)
    counts = {one["error_type"]: one["letters"] for one in found["counts"]}
    assert (found["total"], counts) == (4, {"MissingField": 1, "NotAnObject": 2, "InvalidJson": 1})
    assert {one["state"] for one in found["letters"]} == {"open"}
    assert [one["payload"] for one in found["letters"]] == ["{}", "[]", "[]", None]
    assert listed(pipeline, user, "--device", "d2")["total"] == 1
    assert listed(pipeline, user, "--error-type", "NotAnObject", "--since", "1h")["total"] == 2
    assert listed(pipeline, user, "--until", "1h")["total"] == 0
    at = found["letters"][-1]["timestamp"]
    hours = {one["timestamp"][:13] for one in found["letters"]}
    assert listed(pipeline, user, "--hour", at)["total"] == (4 if len(hours) == 1 else 1)
    assert listed(pipeline, user, "--hour", "1d")["total"] == 0
    beyond = sluice(pipeline, "dlq", "replay", "--user", user, "--hour", "9999-12-31T23:30Z", "--dry-run")
    assert (beyond.returncode, "--hour is the" in beyond.stderr) == (1, True), beyond.stderr
    nothing = sluice(pipeline, "dlq", "list", "--user", user, "--error-type", "Typo")
    assert (nothing.returncode, nothing.stdout) == (0, ""), nothing.stderr
    assert "Error types: " in nothing.stderr
    limited = listed(pipeline, user, "--limit", "1")
    assert (limited["total"], [one["error_type"] for one in limited["letters"]]) == (4, ["InvalidJson"])
    plain = sluice(pipeline, "dlq", "list", "--user", user)
    assert plain.returncode == 0, plain.stderr
    assert "`sequence_id` is missing" in plain.stdout
    assert "\x1b" not in plain.stdout
    summary = sluice(pipeline, "dlq", "list", "--user", user, "--summary")
    assert next(line.split() for line in summary.stdout.splitlines()) == ["2", "NotAnObject", "open"]


def test_one_dead_letter_is_shown_whole(pipeline: Stack, user: str) -> None:
    """By its key or by the place of its message; with the payload as text where it is printable."""
    written = Written(pipeline, user)
    written.write([b'{"sequence_id": "one"}'])
    ((partition, offset),) = written.places
    for name in (f"iot-stream/{partition}/{offset}", f"{partition}/{offset}"):
        done = sluice(pipeline, "dlq", "show", name)
        assert done.returncode == 0, done.stderr
        letter = json.loads(done.stdout)
        assert letter["payload"] == '{"sequence_id": "one"}'
        assert letter["original_topic"] == f"users/{user}/devices/d/telemetry"
        assert (letter["attempts"], letter["state"], letter["error_type"]) == (1, "open", "InvalidField")
    unknown = sluice(pipeline, "dlq", "show", "iot-stream/0/999999999")
    assert unknown.returncode == 1
    assert "no dead letter iot-stream/0/999999999" in unknown.stderr


def test_a_replay_says_what_became_of_each_message(pipeline: Stack, database: Database, user: str) -> None:
    """Rows, and messages that were refused again; what was replayed is not open any more."""
    written = Written(pipeline, user)
    with cold_only(database, user):
        written.write([reading(n, temperature=200) for n in range(5)])
    dry = sluice(pipeline, "dlq", "replay", "--user", user, "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "5 dead letters would be replayed\n"), dry.stderr
    done = sluice(pipeline, "dlq", "replay", "--user", user)
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()][1:] == [["5", "stored"]]
    assert sequence_ids(database, user) == list(range(5))
    assert listed(pipeline, user)["total"] == 0
    assert {one["state"] for one in listed(pipeline, user, "--all")["letters"]} == {"stored"}

    written.write([b"[]"])
    again = sluice(pipeline, "dlq", "replay", "--user", user, "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout)["outcomes"] == {"refused_again": 1}
    (still_open,) = listed(pipeline, user)["letters"]
    assert (still_open["attempts"], still_open["state"]) == (2, "open")
    assert sluice(pipeline, "dlq", "replay", "--user", user).returncode == 1
    assert [one["state"] for one in listed(pipeline, user)["letters"]] == ["exhausted"]
    none = sluice(pipeline, "dlq", "replay", "--user", user)
    assert (none.returncode, none.stdout) == (0, "0 dead letters replayed\n")
    assert "refused three times already; --force" in none.stderr


RENAMED = """
from pydantic import Field

from tasks import telemetry
from tasks.domain import Bigint, Domain


class Renamed(telemetry.Telemetry):
    sequence_id: Bigint = Field(alias="seq")


DOMAIN = Domain(
    Renamed,
    name="telemetry",
    namespace="",
    topic="users/{user_id}/devices/{device_id}/telemetry",
    owner="{user_id}",
    source="{device_id}",
    table="raw_telemetry",
    primary_key=("time", "user_id", "device_id", "sequence_id"),
)
"""


def test_with_a_changed_declaration_letters_become_rows_once_and_the_law_holds(
    pipeline: Stack, database: Database, user: str, tmp_path: Path
) -> None:
    """A field named otherwise: the rows are shown, then stored once, and what the file refuses stays open."""
    file, begin = tmp_path / "renamed.py", datetime.now(UTC).isoformat()
    file.write_text(RENAMED)
    written = Written(pipeline, user)
    written.write([b'{"seq": %d, "temperature": %d}' % (n, 20 + n) for n in range(5)] + [b'{"seq": "x"}'])
    replay = ("dlq", "replay", "--user", user, "--with", str(file), "--json")
    dry = sluice(pipeline, *replay, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    shown = json.loads(dry.stdout)
    assert (shown["selected"], shown["still_refused"]) == (5, 1)
    rows = [row for one in shown["letters"] for row in one["rows"]]
    rows.sort(key=itemgetter("sequence_id"))
    assert [row["temperature"] for row in rows] == [20, 21, 22, 23, 24]
    assert [one["error_type"] for letter in shown["letters"] for one in letter["refused"]] == ["InvalidField"]
    assert sequence_ids(database, user) == []

    done = sluice(pipeline, *replay)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["outcomes"], report["still_refused"]) == ({"stored": 5}, 1)
    assert sequence_ids(database, user) == list(range(5))
    stored = database.execute(
        "SELECT time, temperature, extra_data FROM raw_telemetry WHERE user_id = %s ORDER BY sequence_id",
        [user],
    ).fetchall()
    assert [at for at, _, _ in stored] == [datetime.fromisoformat(row["time"]) for row in rows]
    assert [rest for _, *rest in stored] == [[temperature, {}] for temperature in range(20, 25)]
    assert {letter["state"] for letter in listed(pipeline, user, "--all")["letters"]} == {"stored", "open"}

    again = sluice(pipeline, *replay)
    assert (again.returncode, json.loads(again.stdout)["replayed"]) == (0, 0), again.stderr
    assert sequence_ids(database, user) == list(range(5))
    balance = json.loads(sluice(pipeline, "verify", "--since", begin, "--json").stdout)
    assert [one for one in balance["missing_messages"] if user in one["topic"]] == []


def test_a_run_whose_command_is_gone_is_given_up_by_a_worker_and_its_letters_stay_open(
    pipeline: Stack, database: Database, user: str
) -> None:
    """A worker does not have the file: it sends nothing, and says to run it again."""
    Written(pipeline, user).write([b'{"seq": 1}'])
    run_id = str(uuid4())
    arguments = {"domain": "telemetry", "filters": {"user": user}, "limit": 10, "with": "renamed.py"}
    database.execute(
        "INSERT INTO replays (run_id, kind, arguments, updated_at)"
        " VALUES (%s, 'dead_letters', %s, now() - interval '1 hour')",
        [run_id, json.dumps(arguments)],
    )

    def given_up() -> str:
        (error,) = database.execute("SELECT error FROM replays WHERE run_id = %s", [run_id]).fetchone() or (
            "",
        )
        return error or ""

    call(pipeline, "tasks.replay.go_on")
    fleet.wait_until(lambda: bool(given_up()), 120, "the end of the run")
    assert "run it again" in given_up()
    assert [one["state"] for one in listed(pipeline, user)["letters"]] == ["open"]


def test_a_dead_letter_from_the_gateway_cannot_be_replayed_and_is_counted(
    pipeline: Stack, database: Database, user: str
) -> None:
    """It never was in the telemetry topic: it is listed, and a replay says that it leaves it out."""
    (device,) = fleet.devices(pipeline, [(user, "d")])
    topic = f"users//devices/{user}/telemetry"
    database.execute(
        "INSERT INTO mqtt_acl (username, permission, action, topic)"
        " SELECT username, 'allow', 'publish', %s FROM mqtt_users WHERE user_id = %s",
        [topic, user],
    )

    def found() -> list[dict[str, Any]]:
        done = sluice(pipeline, "dlq", "list", "--since", "5m", "--limit", "10000", "--json")
        return [one for one in json.loads(done.stdout)["letters"] if one["original_topic"] == topic]

    def arrived() -> bool:
        # Until the broker has read the new rule it drops what it does not allow.
        device.publish(b"{}", topic)
        device.await_acknowledged()
        time.sleep(0.5)
        return bool(found())

    fleet.wait_until(arrived, 60, "the dead letter")
    assert found()[0]["state"] == "cannot be replayed"
    done = sluice(
        pipeline, "dlq", "replay", "--since", "5m", "--error-type", "InvalidTopic", "--dry-run", "--json"
    )
    report = json.loads(done.stdout)
    assert report["no_coordinates"] >= 1
    fleet.disconnect([device])


def test_acknowledged_letters_are_open_no_longer_and_who_did_it_is_known(
    pipeline: Stack, database: Database, user: str
) -> None:
    """By filters, or one by its place; they are kept, no replay takes them, and the audit has who it was."""
    written = Written(pipeline, user)
    written.write([b"{}", b"[]", b"[]"])
    dry = sluice(pipeline, "dlq", "acknowledge", "--user", user, "--error-type", "NotAnObject", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "2 dead letters would be acknowledged\n"), dry.stderr
    assert listed(pipeline, user)["total"] == 3
    done = sluice(pipeline, "dlq", "acknowledge", "--user", user, "--error-type", "NotAnObject")
    assert (done.returncode, done.stdout) == (0, "2 dead letters acknowledged\n"), done.stderr
    assert [one["error_type"] for one in listed(pipeline, user)["letters"]] == ["MissingField"]
    partition, offset = written.places[0]
    one = sluice(pipeline, "dlq", "acknowledge", f"{partition}/{offset}")
    assert one.stdout == "1 dead letter acknowledged\n", one.stderr
    assert {letter["state"] for letter in listed(pipeline, user, "--all")["letters"]} == {"acknowledged"}
    assert sluice(pipeline, "dlq", "acknowledge", "--user", user).stdout == "0 dead letters acknowledged\n"
    assert sluice(pipeline, "dlq", "replay", "--user", user).stdout == "0 dead letters replayed\n"
    query = "SELECT key, os_user, after FROM operator_audit WHERE action = 'ACKNOWLEDGE' AND after @> %s"
    ((run, os_user, after),) = database.execute(query, [json.dumps({"user": user})]).fetchall()
    assert run in done.stderr
    assert os_user
    assert after == {"domain": "telemetry", "user": user, "error_type": "NotAnObject", "letters": 2}


def test_wrong_calls_and_absent_servers_are_said_in_sentences(stack: Stack) -> None:
    """No traceback, and the option or variable to look at."""
    for arguments, sentence in {
        ("dlq", "list", "--since", "tomorrow"): "--since must be a span such as",
        ("dlq", "replay", "--limit", "0"): "--limit must be from 1 to",
        ("dlq", "replay", "--with", "absent.py"): "There is no file absent.py",
        ("dlq", "replay", "--with", "examples/finance.py"): "must have the columns of telemetry",
        ("dlq", "acknowledge"): "Name one letter, or give filters",
        ("dlq", "acknowledge", "0/1", "--user", "ada"): "Name one letter, or give filters",
        ("verify", "--since", "0d"): "--since must be a span such as",
    }.items():
        done = sluice(stack, *arguments)
        assert done.returncode == 1
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
