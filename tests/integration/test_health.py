"""Readiness and liveness mean what they say, and `sluice status` shows it all on one screen."""

import json
import subprocess
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tasks.servers import counters
from tasks.servers.redis_client import COUNTERS, client
from tests.conftest import PROCESSES, PROJECT
from tests.integration import fleet, forked
from tests.integration.lag import wait_for_no_lag


def sluice(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command against the stack."""
    return forked.run("ingest.cli", *arguments, cwd=PROJECT, env=process_environment(stack.env))


def ready(stack: Stack, process: str) -> bool:
    """Whether the process says that it does its work."""
    return sluice(stack, "health", process, "--ready").returncode == 0


def test_a_process_is_ready_while_its_servers_are_there(pipeline: Stack) -> None:
    """Without the MQTT broker the gateway is live and not ready, and says why; with it, it is ready again."""
    for process in PROCESSES:
        fleet.wait_until(lambda process=process: ready(pipeline, process), 60, f"{process} to be ready")  # type: ignore[misc]
    pipeline.stop("mosquitto")
    try:
        fleet.wait_until(lambda: not ready(pipeline, "gateway"), 60, "the gateway to notice")
        asked = sluice(pipeline, "health", "gateway", "--ready")
        assert "the MQTT broker is away" in asked.stderr
        assert sluice(pipeline, "health", "gateway").stdout == "ok\n"
        assert ready(pipeline, "bridge")
    finally:
        pipeline.start("mosquitto")
    fleet.wait_until(lambda: ready(pipeline, "gateway"), 120, "the gateway to be ready again")


def test_status_tells_what_is_and_what_is_not(pipeline: Stack, beat: None) -> None:  # noqa: ARG001
    """Every part has its figures, or the reason why there are none, which is said first: exit code 1."""
    fleet.wait_until(lambda: ready(pipeline, "beat"), 60, "beat to be ready")
    well = sluice(pipeline, "status", "--json")
    told = json.loads(well.stdout)
    # Other tests may have left a high share of dead letters.
    assert well.returncode == bool(told["problems"])
    assert not any("does not answer" in problem for problem in told["problems"])
    assert told["kafka"]["lag"] >= 0
    assert told["pipeline"]["stored_per_second"] >= 0
    assert told["outbox"].keys() == {"entries", "oldest_seconds"}
    assert told["breaker"] == "closed"
    assert told["processes"]["bridge"] == ""
    assert "does not answer" in told["processes"]["flower"]
    pipeline.stop("postgres")
    try:
        told = json.loads(sluice(pipeline, "status", "--json").stdout)
        assert "database" in told["alerts"]["away"]
        wrong = sluice(pipeline, "status")
    finally:
        pipeline.start("postgres")
    text = wrong.stdout
    assert (wrong.returncode, text[:39]) == (1, "WRONG      the database does not answer"), text
    assert "alerts     does not answer" in text
    assert len(text.splitlines()) < 28


def stored(database: psycopg.Connection[tuple[Any, ...]], user: str) -> int:
    """How many rows a user has."""
    found = database.execute("SELECT count(*) FROM raw_telemetry WHERE user_id = %s", [user]).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.usefixtures("on_servers")
def test_counters_that_began_anew_say_since_when(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Redis starts empty, and the rows are still there: the first batch notes when counting began."""
    device = fleet.devices(pipeline, [(run := uuid4().hex[:8], "fridge")])[0]
    wait_for_no_lag(pipeline)
    client().delete(COUNTERS)
    # Redis reports whole seconds.
    before = datetime.now(UTC).replace(microsecond=0)
    for number in range(2):
        payload = {"sequence_id": number, "time": f"{before:%FT%TZ}", "temperature": 1}
        device.publish(json.dumps(payload).encode())
        device.await_acknowledged(60)
        fleet.wait_until(
            lambda wanted=number + 1: stored(database, run) == wanted,  # type: ignore[misc]
            60,
            "the row",
        )
    fleet.wait_until(lambda: counters.read().get("stored", 0) >= 2, 60, "both batches to be counted")
    counted = json.loads(sluice(pipeline, "status", "--json").stdout)["pipeline"]
    assert before <= datetime.fromisoformat(counted["counted_since"]) <= datetime.now(UTC)
    assert "since" not in counted
    fleet.disconnect([device])
