"""Kafka's retention passes what nobody has read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from ingest.admin.servers.positions import Positions
from tests.chaos.lost_parts import ALL_THE_WAY, GROUP, TOPIC
from tests.chaos.place import Place
from tests.integration import fleet
from tests.integration.lag import wait_for_no_lag
from tests.records import up_to_end

Message = tuple[str, bytes]
"""An MQTT topic and a payload."""


@dataclass(frozen=True)
class RetentionGap:
    """While the bridge is away the older half of what comes is deleted; this, and no more, is missing."""

    seconds: float
    name: str = "retention passes the bridge"
    touches: frozenset[str] = frozenset(ALL_THE_WAY)
    begins: dict[int, int] = field(default_factory=dict)
    """The offset of the first unread record, by partition."""

    def begin(self, place: Place) -> None:
        """The bridge stops when it has committed everything, so that nothing is on its way to the workers."""
        self.begins.clear()
        place.stack.stop("gateway")
        wait_for_no_lag(place.stack)
        place.stack.stop("bridge")
        positions = Positions(place.stack.env["KAFKA_BOOTSTRAP_SERVERS"], GROUP)
        try:
            self.begins.update(positions.ends(TOPIC))
        finally:
            positions.close()
            place.stack.start("gateway")

    def end(self, place: Place) -> None:
        """Returns when the bridge has reported the gap."""
        before = _reported(place)
        try:
            gone = self._delete_older_half(place)
        finally:
            place.stack.start("bridge")
        fleet.wait_until(
            lambda: _reported(place) == before + gone, 60, "the bridge to report what it skipped"
        )

    def _delete_older_half(self, place: Place) -> int:
        """Of how many partitions records were deleted."""
        bootstrap = place.stack.env["KAFKA_BOOTSTRAP_SERVERS"]
        positions = Positions(bootstrap, GROUP)
        try:
            ends = positions.ends(TOPIC)
        finally:
            positions.close()
        gone = {n: (first, (first + ends[n]) // 2) for n, first in self.begins.items() if ends[n] > first + 1}
        assert gone, "nothing came while the bridge was away"
        messages = _only_there(bootstrap, gone)
        _delete(bootstrap, gone)
        place.deleted.extend(messages)
        return len(gone)


def _only_there(bootstrap: str, ranges: Mapping[int, tuple[int, int]]) -> list[Message]:
    """What has records in these ranges, whose ends are exclusive, and nowhere else.

    A gateway or an MQTT broker that broke off may have put a message into Kafka twice.
    """
    inside: set[Message] = set()
    outside: set[Message] = set()
    for partition, offset, message in _everything(bootstrap):
        first, end = ranges.get(partition, (0, 0))
        (inside if first <= offset < end else outside).add(message)
    return list(inside - outside)


def _everything(bootstrap: str) -> Iterator[tuple[int, int, Message]]:
    """All records: partition, offset, and the message with its MQTT topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "chaos-retention",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        numbers = consumer.list_topics(TOPIC, 30).topics[TOPIC].partitions
        starts = [TopicPartition(TOPIC, number, OFFSET_BEGINNING) for number in numbers]
        for record in up_to_end(consumer, starts):
            partition, offset = record.partition(), record.offset()
            topic = dict(record.headers() or [])["mqtt_topic"]
            assert partition is not None
            assert offset is not None
            assert isinstance(topic, bytes)
            yield partition, offset, (topic.decode(), record.value() or b"")
    finally:
        consumer.close()


def _delete(bootstrap: str, ranges: Mapping[int, tuple[int, int]]) -> None:
    wanted = [TopicPartition(TOPIC, n, end) for n, (_, end) in ranges.items()]
    # Kept: with the client its questions are gone, and their answers never come.
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for done in admin.delete_records(wanted).values():
        done.result(30)


def _reported(place: Place) -> int:
    return place.stack.log("bridge").count("records_skipped")
