"""Kafka's retention passes what nobody has read."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from ingest.positions import Positions
from tests.chaos.lost_parts import GROUP, TOPIC
from tests.chaos.place import Place
from tests.integration import fleet


@dataclass(frozen=True)
class RetentionGap:
    """While the bridge is away the older half of what comes is deleted; this, and no more, is missing."""

    seconds: float
    name: str = "retention passes the bridge"
    begins: dict[int, int] = field(default_factory=dict)
    """The offset of the first unread record, by partition."""

    def begin(self, place: Place) -> None:
        """The bridge stops when it has committed everything, so that nothing is on its way to the workers."""
        place.stack.stop("gateway")
        positions = Positions(place.stack.env["KAFKA_BOOTSTRAP_SERVERS"], GROUP)
        try:
            fleet.wait_until(lambda: positions.lag(TOPIC) == 0, 60, "the bridge to commit everything")
            place.stack.stop("bridge")
            self.begins.clear()
            self.begins.update(positions.ends(TOPIC))
        finally:
            positions.close()
            place.stack.start("gateway")

    def end(self, place: Place) -> None:
        """Returns when the bridge has reported the gap."""
        bootstrap = place.stack.env["KAFKA_BOOTSTRAP_SERVERS"]
        positions = Positions(bootstrap, GROUP)
        try:
            ends = positions.ends(TOPIC)
        finally:
            positions.close()
        gone = {n: (first, (first + ends[n]) // 2) for n, first in self.begins.items() if ends[n] > first + 1}
        assert gone, "nothing came while the bridge was away"
        place.deleted.extend(_messages(bootstrap, gone))
        _delete(bootstrap, gone)
        before = _reported(place)
        place.stack.start("bridge")
        fleet.wait_until(
            lambda: _reported(place) == before + len(gone), 60, "the bridge to report what it skipped"
        )


def _messages(bootstrap: str, ranges: Mapping[int, tuple[int, int]]) -> list[tuple[str, bytes]]:
    """The MQTT topics and payloads of the records in these ranges, whose ends are exclusive."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "chaos-retention", "enable.auto.commit": False}
    )
    found: dict[tuple[int, int], tuple[str, bytes]] = {}
    wanted = sum(end - first for first, end in ranges.values())
    deadline = time.monotonic() + 60
    try:
        consumer.assign([TopicPartition(TOPIC, n, first) for n, (first, _) in ranges.items()])
        while len(found) < wanted:
            assert time.monotonic() < deadline, f"read {len(found)} of {wanted} records before their deletion"
            record = consumer.poll(1)
            if record is None or record.error() is not None:
                continue
            partition, offset = record.partition(), record.offset()
            assert partition is not None
            assert offset is not None
            if offset < ranges[partition][1]:
                topic = dict(record.headers() or [])["mqtt_topic"]
                assert isinstance(topic, bytes)
                found[partition, offset] = topic.decode(), record.value() or b""
    finally:
        consumer.close()
    return list(found.values())


def _delete(bootstrap: str, ranges: Mapping[int, tuple[int, int]]) -> None:
    wanted = [TopicPartition(TOPIC, n, end) for n, (_, end) in ranges.items()]
    for done in AdminClient({"bootstrap.servers": bootstrap}).delete_records(wanted).values():
        done.result(30)


def _reported(place: Place) -> int:
    return place.stack.log("bridge").count("records_skipped")
