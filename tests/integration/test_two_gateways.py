"""Two gateways with one client id: one acts, the other stands by and takes over, and no reading is lost."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from paho.mqtt.client import Client

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from tasks.servers import mqtt
from tasks.settings import settings
from tests.integration import fleet, pages
from tests.integration.fleet import wait_until
from tests.integration.production import counter
from tests.integration.second_process import Second, module, readiness, second

pytestmark = pytest.mark.usefixtures("on_servers")

Database = psycopg.Connection[tuple[Any, ...]]
STANDS_BY = "on standby"
# What docs/deploy.md promises of a process that hangs, or whose machine is gone.
HUNG_SECONDS = 20


class Device:
    """A device that publishes numbered readings."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self.user = uuid4().hex[:8]
        self.sent = 0
        self._database = database
        self._client: Client = fleet.connect(
            stack, provision.provision(database, accounts.device(self.user, "d1"))
        )

    def publish(self, count: int) -> None:
        """So many readings more; returns when the broker has them."""
        topic = f"users/{self.user}/devices/d1/telemetry"
        for _ in range(count):
            self.sent += 1
            reading = {"sequence_id": self.sent, "time": f"2026-01-01T00:00:00.{self.sent:06}Z"}
            self._client.publish(topic, json.dumps(reading).encode(), qos=1).wait_for_publish(10)

    def rows(self) -> list[int]:
        """The numbers of its rows."""
        found = self._database.execute(
            "SELECT sequence_id FROM raw_telemetry WHERE user_id = %s ORDER BY 1", [self.user]
        )
        return [number for (number,) in found.fetchall()]

    def await_rows(self, seconds: float) -> None:
        """Returns when each reading that was sent is a row, once."""
        wait_until(lambda: self.rows() == list(range(1, self.sent + 1)), seconds, "the rows")

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def device(pipeline: Stack, database: Database) -> Iterator[Device]:
    """A device that is connected."""
    connected = Device(pipeline, database)
    yield connected
    connected.close()


@pytest.fixture
def other(pipeline: Stack, tmp_path: Path) -> Iterator[Second]:
    """A second gateway, which stands by."""
    port = pipeline.env["GATEWAY_METRICS_PORT"]
    wait_until(lambda: readiness(port) == "ok", 30, "the first to act")
    command = module("ingest.gateway")
    with second(pipeline, command, "GATEWAY_METRICS_PORT", tmp_path / "other.log") as process:
        wait_until(lambda: STANDS_BY in process.ready(), 30, "the second to stand by")
        yield process


def test_one_of_two_acts_and_the_other_takes_over_from_one_that_is_killed(
    device: Device, other: Second, pipeline: Stack
) -> None:
    """The broker throws nobody out; after the loss every reading is a row within seconds."""
    connects = pages.value(pipeline, "gateway", "sluice_mqtt_connects_total")
    device.publish(50)
    device.await_rows(30)
    assert pages.value(pipeline, "gateway", "sluice_mqtt_connects_total") == connects
    assert "mqtt_connected" not in other.log.read_text()
    fleet.kill(pipeline.pid("gateway"))
    device.publish(50)
    device.await_rows(30)
    wait_until(lambda: states(pipeline, other) == ["ok", STANDS_BY], 30, "one to act and one to stand by")


def test_the_other_takes_over_from_one_that_hangs_which_does_nothing_when_it_wakes(
    device: Device, other: Second, pipeline: Stack
) -> None:
    """What it had taken comes to the other; awake, it ends before it takes anything more, and stands by."""
    device.publish(20)
    device.await_rows(30)
    duplicates, hung = counter(pipeline, "duplicate"), pipeline.pid("gateway")
    os.kill(hung, signal.SIGSTOP)
    try:
        device.publish(50)
        begun = time.monotonic()
        device.await_rows(HUNG_SECONDS)
        assert time.monotonic() - begun < HUNG_SECONDS
        received = pages.value(other, "gateway", "sluice_gateway_received_messages_total")
    finally:
        os.kill(hung, signal.SIGCONT)
    port = pipeline.env["GATEWAY_METRICS_PORT"]
    wait_until(lambda: STANDS_BY in readiness(port), 40, "the first to stand by")
    assert hung != pipeline.pid("gateway")
    assert "was suspended" in pipeline.log("gateway")
    device.publish(20)
    device.await_rows(30)
    assert other.ready() == "ok"
    assert counter(pipeline, "duplicate") == duplicates
    # It is not thrown out again: what it gets from now on are new messages.
    now = pages.value(other, "gateway", "sluice_gateway_received_messages_total")
    assert now == received + 20


def test_a_rival_that_knows_no_lease_is_met_with_growing_pauses(pipeline: Stack, device: Device) -> None:
    """As one of an earlier version is; the log and the health say what is wrong, and nothing is lost."""
    chosen = settings()
    port = pipeline.env["GATEWAY_METRICS_PORT"]
    wait_until(lambda: readiness(port).startswith("ok"), 30, "the gateway")
    before = pipeline.log("gateway").count("mqtt_session_taken_over")
    for _ in range(4):
        rival = mqtt.client(chosen, mqtt.session_id(chosen, chosen.mqtt_client_id))
        rival.connect(chosen.mqtt_host, chosen.mqtt_port, clean_start=False)
        rival.loop_start()
        wait_until(rival.is_connected, 10, "the rival to connect")
        wait_until(lambda: not readiness(port).startswith("ok"), 10, "the gateway to be thrown out")
        rival.disconnect()
        rival.loop_stop()
        wait_until(lambda: readiness(port).startswith("ok"), 60, "the gateway to be back")
    assert "another process uses the client id" in readiness(port)
    noted = [line for line in pipeline.log("gateway").splitlines() if "mqtt_session_taken_over" in line]
    waits = [json.loads(line)["again_in_s"] for line in noted[before:]]
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0]
    device.publish(20)
    device.await_rows(60)


def states(stack: Stack, other: Second) -> list[str]:
    """What the two say of themselves, without who it is that acts."""
    said = (other.ready(), readiness(stack.env["GATEWAY_METRICS_PORT"]))
    return sorted(STANDS_BY if STANDS_BY in one else one for one in said)
