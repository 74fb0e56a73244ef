"""Positions in Kafka that no longer mean what they meant: reported, and the readings judged right."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from compose.local import ports
from compose.local.preparation import process_environment
from compose.local.stack import Stack
from ingest.admin.servers.positions import Positions
from tasks.dead_letters import envelope
from tasks.servers.rules_version import announce_change
from tests.conftest import PROJECT
from tests.integration.changes import Database, history
from tests.integration.fleet import wait_until
from tests.integration.pages import value
from tests.integration.part_tasks import RULES
from tests.integration.stream import sequence_ids

pytestmark = pytest.mark.usefixtures("on_servers")


@dataclass
class OwnTopic:
    """A topic and a bridge of the test's own, on the workers of the pipeline."""

    stack: Stack
    user: str
    log: Path
    name: str = field(default_factory=lambda: f"stream-{uuid4().hex[:8]}")
    sent: int = 0

    def __post_init__(self) -> None:
        numbers = ports.free({})
        self.env = {
            **self.stack.env,
            "KAFKA_TOPIC": self.name,
            "KAFKA_GROUP": self.name,
            "BRIDGE_METRICS_PORT": str(numbers["BRIDGE_METRICS_PORT"]),
        }
        self.admin = AdminClient({"bootstrap.servers": self.env["KAFKA_BOOTSTRAP_SERVERS"]})

    def make(self) -> None:
        """Makes the topic, with one partition."""
        self.admin.create_topics([NewTopic(self.name, 1, 1)])[self.name].result(30)
        wait_until(lambda: self.name in self.admin.list_topics(timeout=10).topics, 30, "the topic")

    def remove(self) -> None:
        """Deletes the topic."""
        self.admin.delete_topics([self.name])[self.name].result(30)
        wait_until(lambda: self.name not in self.admin.list_topics(timeout=10).topics, 30, "its end")

    def send(self, *temperatures: float, device: str = "d", partition: int = 0) -> None:
        """Readings of a device, whose numbers go on."""
        producer = Producer({"bootstrap.servers": self.env["KAFKA_BOOTSTRAP_SERVERS"], "acks": "all"})
        topic = f"users/{self.user}/devices/{device}/telemetry"
        for temperature in temperatures:
            payload = json.dumps({"sequence_id": self.sent, "temperature": temperature})
            key, headers = f"{self.user}/{device}", [("mqtt_topic", topic.encode())]
            producer.produce(self.name, payload, key, partition=partition, headers=headers)  # type: ignore[arg-type]
            self.sent += 1
        assert producer.flush(30) == 0

    def refuse(self, offset: int) -> None:
        """The dead letter of a record of now, though nothing was wrong with it."""
        producer = Producer({"bootstrap.servers": self.env["KAFKA_BOOTSTRAP_SERVERS"], "acks": "all"})
        value = envelope.envelope(
            f"users/{self.user}/devices/d/telemetry",
            b"x",
            "InvalidJson",
            "no JSON",
            kafka_topic=self.name,
            kafka_partition=0,
            kafka_offset=offset,
            kafka_timestamp_ms=int(time.time() * 1000) - 60_000,
        )
        producer.produce("iot-stream-dlq", value, envelope.key(self.name, 0, offset))
        assert producer.flush(30) == 0

    def drop(self, before: int) -> None:
        """What Kafka's retention does: takes the records before an offset away."""
        gone = self.admin.delete_records([TopicPartition(self.name, 0, before)])
        for future in gone.values():
            future.result(30)

    def lose_all(self, stack: Stack) -> None:
        """Kafka loses the records, and keeps the topic."""
        stack.stop("kafka")
        for file in (stack.layout.data("kafka") / f"{self.name}-0").iterdir():
            if file.name.startswith("0"):
                file.unlink()
        stack.start("kafka")

    def committed(self) -> int:
        """Up to where the bridge has committed."""
        positions = Positions(self.env["KAFKA_BOOTSTRAP_SERVERS"], self.name)
        try:
            return positions.committed(self.name)[0]
        finally:
            positions.close()

    def verify(self) -> tuple[int, Any]:
        """Exit code, and what `sluice verify` says."""
        done = subprocess.run(
            [sys.executable, "-m", "ingest.cli", "verify", "--json"],
            cwd=PROJECT,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    @contextmanager
    def bridge(self) -> Iterator["subprocess.Popen[bytes]"]:
        """The bridge, stopped gently at the end."""
        environment = {**os.environ, **process_environment(self.env)}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ingest.bridge"], cwd=PROJECT, env=environment, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.fixture
def topic(pipeline: Stack, database: Database, tmp_path: Path) -> Iterator[OwnTopic]:
    """A topic of a user with a rule."""
    user = uuid4().hex[:8]
    database.execute("INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)", [user, json.dumps(RULES)])
    announce_change()
    made = OwnTopic(pipeline, user, tmp_path / "bridge.log")
    made.make()
    yield made
    made.remove()


def await_history(database: Database, user: str, *statuses: str) -> None:
    """Waits for the changes of the user's device, and that there are no more."""
    wait_until(lambda: len(history(database, user)) >= len(statuses), 90, f"{statuses}")
    assert [status for _, status in history(database, user)] == list(statuses)


def test_a_topic_that_was_made_again_while_the_bridge_was_away(topic: OwnTopic, database: Database) -> None:
    """Its offsets begin at 0, and the device was judged at a higher one; its alerts are published anyway.

    The dead letter of an old record is not that of a new one with its offset, which needs its own row.
    """
    with topic.bridge():
        topic.send(*[20.0] * 10, 90.0, 20.0)
        await_history(database, topic.user, "TRIGGERED", "RESOLVED")
        wait_until(lambda: topic.committed() == 12, 30, "the commit")
    topic.refuse(0)
    topic.remove()
    topic.make()
    topic.send(90.0, 20.0, 90.0)
    with topic.bridge():
        await_history(database, topic.user, "TRIGGERED", "RESOLVED", "TRIGGERED", "RESOLVED", "TRIGGERED")
        wait_until(lambda: topic.committed() == 3, 30, "the commit")
    assert sequence_ids(database, topic.user) == list(range(15))
    database.execute("DELETE FROM raw_telemetry WHERE user_id = %s AND sequence_id = 12", [topic.user])
    code, found = topic.verify()
    assert (code, found["missing"], found["dead_lettered"], found["rows"]) == (1, 1, 0, 2)
    query = "SELECT epoch FROM kafka_topics WHERE topic = %s ORDER BY epoch"
    assert database.execute(query, [topic.name]).fetchall() == [(0,), (1,)]


def test_a_topic_that_is_made_again_under_the_bridge(
    pipeline: Stack, topic: OwnTopic, database: Database
) -> None:
    """The same, and nothing of the new topic is passed over."""
    before = value(pipeline, "worker", "sluice_topics_made_again_total")
    with topic.bridge():
        topic.send(90.0, 20.0)
        await_history(database, topic.user, "TRIGGERED", "RESOLVED")
        wait_until(lambda: topic.committed() == 2, 30, "the commit")
        topic.remove()
        topic.make()
        # Below the offset at which the bridge stands: it must begin again to read this.
        topic.send(20.0)
        wait_until(lambda: len(sequence_ids(database, topic.user)) == 3, 120, "the first row")
        topic.send(90.0, 91.0, 20.0)
        wait_until(lambda: len(sequence_ids(database, topic.user)) == 6, 120, "all rows")
        await_history(database, topic.user, "TRIGGERED", "RESOLVED", "TRIGGERED", "RESOLVED")
    assert value(pipeline, "worker", "sluice_topics_made_again_total") == before + 1


def test_a_topic_that_is_made_again_after_the_bridge_has_seen_its_end(
    topic: OwnTopic, database: Database
) -> None:
    """A client that has seen a topic without partitions may never read it again; the bridge does."""
    with topic.bridge():
        topic.send(90.0, 20.0)
        await_history(database, topic.user, "TRIGGERED", "RESOLVED")
        wait_until(lambda: topic.committed() == 2, 30, "the commit")
        topic.remove()
        wait_until(lambda: "partition count changed from 1 to 0" in topic.log.read_text(), 60, "its end")
        topic.make()
        topic.send(90.0, 91.0, 20.0)
        wait_until(lambda: len(sequence_ids(database, topic.user)) == 5, 120, "all rows")
        await_history(database, topic.user, "TRIGGERED", "RESOLVED", "TRIGGERED", "RESOLVED")


def test_a_topic_that_is_made_again_and_outgrows_the_old_one_at_once(
    topic: OwnTopic, database: Database
) -> None:
    """Kafka's client goes on from the old offset; the bridge does not, and judges all in order."""
    with topic.bridge() as bridge:
        topic.send(90.0, 20.0)
        await_history(database, topic.user, "TRIGGERED", "RESOLVED")
        wait_until(lambda: topic.committed() == 2, 30, "the commit")
        # It must not see the new topic while that is shorter.
        bridge.send_signal(signal.SIGSTOP)
        topic.remove()
        topic.make()
        # One by one, so that what is judged too late is older than what was judged before it.
        for temperature in (90.0, 20.0, 90.0, 20.0):
            topic.send(temperature)
        bridge.send_signal(signal.SIGCONT)
        wait_until(lambda: len(sequence_ids(database, topic.user)) == 6, 120, "all rows")
        await_history(database, topic.user, *["TRIGGERED", "RESOLVED"] * 3)
    assert '"topic_has_another_id"' in topic.log.read_text()


def test_records_that_kafka_has_lost_at_the_end_of_a_partition(
    pipeline: Stack, topic: OwnTopic, database: Database
) -> None:
    """After an unclean election, or on a damaged disk, offsets come a second time: with readings to judge."""
    with topic.bridge():
        topic.send(*[20.0] * 5, 90.0)
        await_history(database, topic.user, "TRIGGERED")
        wait_until(lambda: topic.committed() == 6, 60, "the commit")
    topic.lose_all(pipeline)
    with topic.bridge():
        topic.send(20.0, 90.0)
        await_history(database, topic.user, "TRIGGERED", "RESOLVED", "TRIGGERED")
        wait_until(lambda: topic.committed() == 2, 60, "the commit")
    assert '"offsets_begin_again"' in topic.log.read_text()
    with topic.bridge():
        topic.send(20.0)
        await_history(database, topic.user, "TRIGGERED", "RESOLVED", "TRIGGERED", "RESOLVED")


def test_records_that_retention_took_are_reported_and_named(topic: OwnTopic, database: Database) -> None:
    """While the bridge was away, and while it stood still: log, metric and `sluice verify` say which."""
    with topic.bridge():
        topic.send(*[20.0] * 5)
        wait_until(lambda: topic.committed() == 5, 60, "the commit")
    topic.send(*[20.0] * 5)
    topic.drop(8)
    code, found = topic.verify()
    assert (code, found["skipped"]) == (1, [{"partition": 0, "first": 5, "last": 7}])
    with topic.bridge() as bridge:
        wait_until(lambda: topic.committed() == 10, 60, "the commit")
        assert value(topic, "bridge", "sluice_bridge_skipped_records_total") == 3
        bridge.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        topic.send(*[20.0] * 5)
        topic.drop(12)
        bridge.send_signal(signal.SIGCONT)
        wait_until(lambda: topic.committed() == 15, 90, "the commit")
    assert sequence_ids(database, topic.user) == [0, 1, 2, 3, 4, 8, 9, 12, 13, 14]
    assert "records_skipped" in topic.log.read_text()
    skipped = [{"partition": 0, "first": first, "last": last} for first, last in ((5, 7), (10, 11))]
    code, found = topic.verify()
    assert (code, found["skipped"]) == (1, skipped)


def test_partitions_that_were_added_are_noticed(topic: OwnTopic, database: Database) -> None:
    """They are read from their beginning, and a device that moves there is judged on."""
    with topic.bridge():
        topic.send(20.0, 90.0)
        await_history(database, topic.user, "TRIGGERED")
        topic.admin.create_partitions([NewPartitions(topic.name, 2)])[topic.name].result(30)
        wait_until(lambda: "partitions_added" in topic.log.read_text(), 90, "the bridge to notice")
        topic.send(91.0, 20.0, partition=1)
        await_history(database, topic.user, "TRIGGERED", "RESOLVED")
        assert value(topic, "bridge", "sluice_bridge_partitions_added_total") == 1
