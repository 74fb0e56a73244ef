"""`sluice verify`: nothing is missing, and if something is, it is named."""

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tests.conftest import DeadLetters
from tests.integration.commands import call, report, sluice
from tests.integration.lag import wait_for_no_lag
from tests.integration.stream import Written, cold_only, reading

Database = psycopg.Connection[tuple[Any, ...]]

pytestmark = pytest.mark.usefixtures("on_servers")


def verify(stack: Stack, since: datetime) -> tuple[int, dict[str, Any]]:
    """Exit code and balance."""
    done = sluice(stack, "verify", "--since", since.isoformat(), "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_what_is_missing_is_named_and_a_range_brings_it_back(pipeline: Stack, database: Database) -> None:
    """Rows, duplicates, dead letters and recovered ones balance; a deleted row is named by its place."""
    user, begin = f"u{uuid4().hex[:8]}", datetime.now(UTC)
    written = Written(pipeline, user)
    with cold_only(database, user):
        written.write([reading(n) for n in range(40)] + [reading(0), b"[]", reading(99, temperature=200)])
    # Times without a clock, and wild ones: each is looked up where it is.
    written.write([b'{"sequence_id": 1}', b'{"sequence_id": 2, "time": "0001-01-01T00:00:00Z"}'], "wild")
    assert verify(pipeline, begin) == (
        0,
        {
            "received": 45,
            "rows": 43,
            "dead_lettered": 2,
            "recovered": 0,
            "expired": 0,
            "missing": 0,
            "ignored": 0,
            "partly": 0,
            "readings": 45,
            "in_flight": 0,
            "skipped": [],
            "missing_messages": [],
        },
    )

    report(pipeline, call(pipeline, "tasks.replay.dead_letters", user=user, error_type="DatabaseRefused"))
    wait_for_no_lag(pipeline)
    database.execute("DELETE FROM raw_telemetry WHERE user_id = %s AND sequence_id = 7", [user])
    code, balance = verify(pipeline, begin)
    (missing,) = balance["missing_messages"]
    assert (code, balance["missing"]) == (1, 1)
    partition, offset = written.places[7]
    assert missing == {
        "partition": partition,
        "offset": offset,
        "topic": f"users/{user}/devices/d/telemetry",
        "sequence_id": 7,
        "time": "2026-03-02T10:00:07+00:00",
        "reason": "no row and no dead letter",
    }
    plain = sluice(pipeline, "verify", "--since", begin.isoformat())
    assert plain.returncode == 1
    assert f"{partition}/{offset}" in plain.stdout
    assert "sequence_id 7" in plain.stdout

    report(
        pipeline, call(pipeline, "tasks.replay.offsets", partition=partition, start=offset, end=offset + 1)
    )
    code, balance = verify(pipeline, begin)
    assert (code, balance["missing"], balance["recovered"]) == (0, 0, 1)


def test_a_reading_whose_key_has_other_values_needs_a_dead_letter(
    pipeline: Stack, database: Database, dead_letters: DeadLetters
) -> None:
    """The second of two is a dead letter; without one a row that differs is not the row of its record."""
    user, begin = f"u{uuid4().hex[:8]}", datetime.now(UTC)
    Written(pipeline, user).write([reading(1, temperature=4), reading(1, temperature=19), reading(2)])
    code, balance = verify(pipeline, begin)
    assert (code, balance["rows"], balance["dead_lettered"], balance["recovered"]) == (0, 2, 1, 0)
    (letter,) = (one for _, one in dead_letters.read() if user in one["original_topic"])
    assert (letter["error_type"], letter["stored"]["temperature"]) == ("Conflict", 4)
    assert base64.b64decode(letter["payload_base64"]) == reading(1, temperature=19)

    database.execute("UPDATE raw_telemetry SET battery = 5 WHERE user_id = %s AND sequence_id = 2", [user])
    code, balance = verify(pipeline, begin)
    (missing,) = balance["missing_messages"]
    assert (code, missing["sequence_id"]) == (1, 2)
    assert missing["reason"] == "its key is stored with other values, and it has no dead letter"


def test_everything_in_kafka_can_be_verified_in_bounded_memory(pipeline: Stack) -> None:
    """More records than a chunk has, without a time from which on."""
    user = f"u{uuid4().hex[:8]}"
    Written(pipeline, user).write(
        [reading(n % 3600, sequence_id=n) for n in range(12_000)], f"d{uuid4().hex[:4]}"
    )
    done = sluice(pipeline, "verify", "--json")
    balance = json.loads(done.stdout)
    ours = [one for one in balance["missing_messages"] if user in one["topic"]]
    assert balance["received"] >= 12_000
    assert ours == []
