"""`sluice erase`: a user or a device goes with everything, nobody else's data does, and the trail has it."""

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis

from compose.local.stack import Stack
from ingest.admin.erasure import erase, erase_tables
from tasks.servers.redis_client import OUTBOX_REFUSED
from tests.integration import fleet
from tests.integration.changes import history
from tests.integration.commands import sluice
from tests.integration.fleet import Device, wait_until
from tests.integration.rule_tables import write

Database = psycopg.Connection[tuple[Any, ...]]

HOT = {"id": "hot", "key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}
LATE = datetime.now(UTC) - timedelta(days=3)


def test_every_table_is_erased_or_kept_for_a_reason(stack: Stack, empty: str) -> None:
    """A table that a later version adds is erased, or says why it is not."""
    done = sluice(stack, "migrate", SLUICE_ENV_FILE=os.devnull, DATABASE_URL=empty)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(empty, autocommit=True) as database:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        found = {name for (name,) in database.execute(query)}
        rows = erase_tables.domain_rows(database, erase.user("anna"))
    erased = {part.table for part in erase.parts()} | {one.relation for one in (*rows, erase_tables.HOURLY)}
    assert not erased & erase_tables.KEPT.keys()
    assert erased | erase_tables.KEPT.keys() == found


def erased(stack: Stack, *arguments: str, code: int = 0) -> dict[str, Any]:
    """What `sluice erase --json` prints; or how it refuses, under `said`."""
    done = sluice(stack, "erase", *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    found = {"said": done.stderr} if code else json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def counts(stack: Stack, *arguments: str) -> dict[str, int]:
    """The kinds of data to erase, without empty ones."""
    found = erased(stack, *arguments)
    assert not found["erased"]
    return {name: number for name, number in found["counts"].items() if number}


def send(device: Device, number: int, temperature: float, time: datetime | None = None) -> None:
    """A reading, which the broker has when this returns."""
    reading: dict[str, Any] = {"sequence_id": number, "temperature": temperature}
    device.publish(json.dumps(reading | ({"time": time.isoformat()} if time else {})).encode())
    device.await_acknowledged()


def furnish(stack: Stack, database: Database, user: str, devices: list[Device]) -> None:
    """Gives a user some of everything."""
    write(database, user, [HOT])
    write(database, user, [HOT | {"message": "very hot"}])
    for arguments in (
        ("channels", "add", user, "hook", "webhook", "https://example.org/hook"),
        ("tokens", "create", user),
        ("quiet", "add", "night", "--user", user, "--device", devices[0].device, "--for", "2h"),
        ("groups", "add", user, "all", *(device.device for device in devices)),
    ):
        done = sluice(stack, *arguments)
        assert done.returncode == 0, done.stderr
    database.execute("INSERT INTO channel_users VALUES (%s, now())", [user])
    for device in devices:
        send(device, 1, 20.0, LATE)
        send(device, 2, 90.0)
        values = [user, device.device, LATE]
        database.execute(
            "INSERT INTO rollups_hourly VALUES (%s, %s, 'battery', %s, 'telemetry', 1, 1, 1, 1, 1)", values
        )
        database.execute(
            "INSERT INTO rollups_daily VALUES (%s, %s, 'battery', %s, 'telemetry', 1, 1, 1, 1, 1)", values
        )
        database.execute(
            "INSERT INTO rollup_marks (domain, hour, users, devices) VALUES ('telemetry', 1, %s, %s)",
            [[user, "x"], [device.device, "y"]],
        )
    wait_until(lambda: len(history(database, user)) == len(devices), 60, "the alerts")
    wait_until(
        lambda: (
            database.execute("SELECT FROM device_days WHERE user_id = %s AND messages = 2", [user]).rowcount
            == len(devices)
        ),
        60,
        "the registry",
    )


def be_silent(database: Database, user: str) -> None:
    """A minute passes for the registry."""
    database.execute("UPDATE devices SET last_seen = last_seen - interval '61 s' WHERE user_id = %s", [user])


@pytest.mark.usefixtures("beat")
def test_a_device_and_then_its_user_are_erased_with_everything(pipeline: Stack, database: Database) -> None:
    """Only with --yes, when nothing can come any more, and all of it; others' data stay as they are."""
    name = uuid4().hex[:8]
    # As a pattern of Redis the one is both.
    user, other = f"a*{name}", f"ab{name}"
    devices = fleet.devices(pipeline, [(user, "d1"), (user, "d2"), (other, "d1")])
    try:
        furnish(pipeline, database, user, devices[:2])
        furnish(pipeline, database, other, devices[2:])
        with redis.Redis.from_url(pipeline.env["REDIS_URL"]) as server:
            for owner in (user, other):
                server.xadd(OUTBOX_REFUSED, {"entry": json.dumps({"user_id": owner, "device_id": "d2"})})
        others = counts(pipeline, "user", other)
        assert others["undeliverable changes in Redis"] == 1
        both, one = counts(pipeline, "user", user), counts(pipeline, "device", user, "d1")
        assert (both["raw_telemetry"], both["mqtt_users"], both["alert_history"]) == (4, 2, 2)
        assert (one["raw_telemetry"], one["mqtt_users"], one["alert_history"]) == (2, 1, 1)
        everything = set(erased(pipeline, "user", user)["counts"])
        # The stack may have tables of other domains.
        tables = {part.table for part in erase.parts()} | {"raw_telemetry", erase_tables.HOURLY.relation}
        assert everything & tables - both.keys() == set()

        said = erased(pipeline, "device", user, "d1", "--yes", code=1)["said"]
        assert f"sluice provision remove {user}/d1" in said
        assert sluice(pipeline, "provision", "remove", f"{user}/d1").returncode == 0
        assert "s ago" in erased(pipeline, "device", user, "d1", "--yes", code=1)["said"]
        assert counts(pipeline, "device", user, "d1")["raw_telemetry"] == 2
        be_silent(database, user)
        assert erased(pipeline, "device", user, "d1", "--yes")["counts"]["raw_telemetry"] == 2
        assert counts(pipeline, "device", user, "d1") == {}
        assert counts(pipeline, "user", user)["raw_telemetry"] == 2

        database.execute("UPDATE devices SET last_seen = now() WHERE user_id = %s", [user])
        assert "s ago" in erased(pipeline, "user", user, "--yes", code=1)["said"]
        assert database.execute("SELECT FROM mqtt_users WHERE user_id = %s", [user]).rowcount == 0
        be_silent(database, user)
        removed = erased(pipeline, "user", user, "--yes")
        assert removed["erased"]
        assert removed["counts"]["raw_telemetry"] == 2
        assert "operator_audit" in " ".join(removed["not_removed"])
        assert counts(pipeline, "user", user) == {}
        assert sum(erased(pipeline, "user", user, "--yes")["counts"].values()) == 0
    finally:
        fleet.disconnect(devices)
    assert counts(pipeline, "user", other) == others
    trail = database.execute(
        "SELECT action, key, after FROM operator_audit"
        " WHERE subject IN ('user', 'device') AND key LIKE %s ORDER BY id",
        [f"{user}%"],
    ).fetchall()
    done = [
        (key, after["removed"].get("raw_telemetry")) for action, key, after in trail if action == "ERASED"
    ]
    assert done == [(f"{user}/d1", 2), (user, 2), (user, None)]
    assert [key for action, key, _ in trail if action == "ERASE"] == [f"{user}/d1", user, user, user]
