"""A database from an older backup: what Kafka still has is stored and judged again, and nothing twice."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis
from confluent_kafka import Producer

from compose.local.stack import Stack
from tests.conftest import PROCESSES
from tests.integration import backup
from tests.integration.commands import sluice
from tests.integration.fleet import wait_until
from tests.integration.lag import wait_for_no_lag
from tests.integration.rule_tables import write_unchecked
from tests.integration.user_program import HOT

pytestmark = pytest.mark.usefixtures("on_servers")

HISTORY = (
    "SELECT device_id, status, sequence_id FROM alert_history WHERE user_id = %s"
    " ORDER BY device_id, sequence_id"
)
ROWS = "SELECT sequence_id FROM raw_telemetry WHERE user_id = %s ORDER BY 1"
HYPERTABLES = "SELECT count(*) FROM timescaledb_information.hypertables"


def test_what_a_backup_lacks_comes_back_from_kafka(pipeline: Stack, tmp_path: Path) -> None:
    """Rows, and alerts that began or ended after the backup; `sluice verify` says what is missing before."""
    user, since = f"u{uuid4().hex[:8]}", datetime.now(UTC)
    with connected(pipeline) as database:
        write_unchecked(database, user, [HOT])
        tables = rows(database, HYPERTABLES)
    # One alert is open in the backup, and ends after it; another begins after it.
    produce(pipeline, user, "ends", [(1, 20.0), (2, 90.0)])
    produce(pipeline, user, "begins", [(3, 20.0)])
    await_rows(pipeline, user, 3)
    backup.dump(pipeline, tmp_path / "sluice.dump")
    taken = datetime.now(UTC)
    produce(pipeline, user, "ends", [(4, 20.0)])
    produce(pipeline, user, "begins", [(5, 90.0)])
    await_rows(pipeline, user, 5)
    wait_for_no_lag(pipeline)
    alerts = await_history(pipeline, user, 3)
    for name in PROCESSES:
        pipeline.stop(name)
    backup.restore(pipeline, tmp_path / "sluice.dump")
    with redis.Redis.from_url(pipeline.env["REDIS_URL"]) as client:
        client.flushall()
    assert sluice(pipeline, "migrate").returncode == 0
    pipeline.up(PROCESSES, prepare=False)
    with connected(pipeline) as database:
        assert rows(database, HYPERTABLES) == tables
        assert rows(database, ROWS, user) == [(1,), (2,), (3,)]
    assert [one["sequence_id"] for one in missing(pipeline, since)] == [4, 5]
    done = sluice(pipeline, "replay", "times", "--since", taken.isoformat(), "--alerts")
    assert done.returncode == 0, done.stderr
    assert missing(pipeline, since) == []
    assert await_history(pipeline, user, 3) == alerts
    produce(pipeline, user, "begins", [(6, 20.0)])
    await_rows(pipeline, user, 6)
    assert await_history(pipeline, user, 4) == sorted(
        [*alerts, ("begins", "RESOLVED", 6)], key=lambda one: (one[0], one[2])
    )


def connected(stack: Stack) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of its own: the restore ends all that there are."""
    return psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True)


def rows(
    database: psycopg.Connection[tuple[Any, ...]], query: str, *parameters: str
) -> list[tuple[Any, ...]]:
    """What the query finds."""
    return database.execute(query, parameters).fetchall()


def produce(stack: Stack, user: str, device: str, readings: list[tuple[int, float]]) -> None:
    """Numbered temperatures of a device, straight into Kafka."""
    producer = Producer({"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], "acks": "all"})
    for number, temperature in readings:
        value = json.dumps(
            {"sequence_id": number, "time": f"2026-03-01T10:00:{number:02}Z", "temperature": temperature}
        )
        topic = f"users/{user}/devices/{device}/telemetry".encode()
        producer.produce("iot-stream", value, f"{user}/{device}", headers=[("mqtt_topic", topic)])
    assert producer.flush(30) == 0


def await_rows(stack: Stack, user: str, count: int) -> None:
    """Returns when the user has so many rows."""
    with connected(stack) as database:
        wait_until(lambda: len(rows(database, ROWS, user)) == count, 60, "the rows")


def await_history(stack: Stack, user: str, count: int) -> list[tuple[Any, ...]]:
    """The user's changes of alerts, when there are so many."""
    with connected(stack) as database:
        wait_until(lambda: len(rows(database, HISTORY, user)) >= count, 60, "the alerts")
        return rows(database, HISTORY, user)


def missing(stack: Stack, since: datetime) -> list[dict[str, Any]]:
    """The records without an outcome, by their numbers."""
    done = sluice(stack, "verify", "--since", since.isoformat(), "--json")
    assert done.stdout, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["missing_messages"]
    return sorted(found, key=lambda one: int(one["sequence_id"]))
