"""A running site gets more partitions by the steps of docs/scale.md, and no device's order is lost."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from compose.local import envfile
from compose.local.stack import Stack
from tests.conftest import PROCESSES
from tests.integration import fleet
from tests.integration.deployment import stop
from tests.integration.fleet import wait_until
from tests.integration.lag import wait_for_no_lag
from tests.integration.rule_tables import write_unchecked
from tests.integration.user_program import HOT

pytestmark = pytest.mark.usefixtures("on_servers")

Database = psycopg.Connection[tuple[Any, ...]]
DEVICES, READINGS, MORE = 20, 30, 24
HISTORY = (
    "SELECT device_id, sequence_id, status FROM alert_history WHERE user_id = %s ORDER BY device_id, number"
)


@pytest.fixture
def grown(pipeline: Stack) -> Iterator[str]:
    """All processes on a topic of the test's own, which is then no other test's."""
    before, topic = pipeline.env, f"grown-{uuid4().hex[:6]}"
    stop(pipeline)
    envfile.write(pipeline.layout.env, {**before, "KAFKA_TOPIC": topic})
    try:
        pipeline.up(PROCESSES)
        yield topic
    finally:
        stop(pipeline)
        envfile.write(pipeline.layout.env, before)


def test_alerts_are_exact_across_the_change(grown: str, pipeline: Stack, database: Database) -> None:
    """Each reading changes its device's alert; one that came before its predecessor would not be judged."""
    user = f"u{uuid4().hex[:8]}"
    write_unchecked(database, user, [HOT])
    devices = fleet.devices(pipeline, [(user, f"dev-{number}") for number in range(DEVICES)])
    publish(devices, range(READINGS))
    pipeline.stop("gateway")
    publish(devices, range(READINGS, 2 * READINGS))  # the broker has these
    wait_for_no_lag(pipeline, grown)
    admin = AdminClient({"bootstrap.servers": pipeline.env["KAFKA_BOOTSTRAP_SERVERS"]})
    for future in admin.create_partitions([NewPartitions(grown, MORE)]).values():
        future.result(30)
    pipeline.restart("bridge")
    pipeline.start("gateway")
    publish(devices, range(2 * READINGS, 3 * READINGS))
    expected = [
        (device, number, "RESOLVED" if number % 2 else "TRIGGERED")
        for device in sorted(f"dev-{number}" for number in range(DEVICES))
        for number in range(3 * READINGS)
    ]

    def history() -> list[tuple[Any, ...]]:
        return database.execute(HISTORY, [user]).fetchall()

    wait_until(lambda: len(history()) >= len(expected), 90, "the changes of alerts")
    assert history() == expected
    # Or nothing was tried: some devices are in partitions that were not there before.
    counts = [end_of(pipeline, grown, number) for number in range(12, MORE)]
    assert any(counts)
    fleet.disconnect(devices)


def publish(devices: list[fleet.Device], numbers: range) -> None:
    """Readings, hot and cold in turn; returns when the broker has them."""
    for number in numbers:
        for device in devices:
            reading = {"sequence_id": number, "temperature": 20.0 if number % 2 else 90.0}
            device.publish(json.dumps(reading).encode())
    for device in devices:
        device.await_acknowledged()


def end_of(stack: Stack, topic: str, partition: int) -> int:
    """How many records came to the partition."""
    consumer = Consumer({"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "ends"})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), 30)[1])
    finally:
        consumer.close()
