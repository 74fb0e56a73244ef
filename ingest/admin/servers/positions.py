"""Where Kafka's partitions end, and how far the bridge has committed them."""

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ingest.admin.errors import ServerAway
from tasks.servers import kafka
from tasks.settings import settings

ANSWER_SECONDS = 5.0


class KafkaAway(ServerAway):
    """Kafka did not answer, or does not know the topic."""


class Positions:
    """Reads offsets without joining a consumer group. Every method raises `KafkaAway` within seconds."""

    def __init__(self, bootstrap_servers: str, group: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        # A consumer that never subscribes is not a member of its group, but may read the group's offsets.
        self._consumer = Consumer(
            {
                **kafka.connection(settings()),
                "bootstrap.servers": bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record of each partition."""
        try:
            return {
                number: self._consumer.get_watermark_offsets(TopicPartition(topic, number), ANSWER_SECONDS)[1]
                for number in self._partitions(topic)
            }
        except KafkaException as error:
            raise self._away(error) from error

    def committed(self, topic: str) -> dict[int, int]:
        """The group's committed offset of each partition; a partition that it has never committed has 0."""
        try:
            answer = self._consumer.committed(
                [TopicPartition(topic, number) for number in self._partitions(topic)], ANSWER_SECONDS
            )
        except KafkaException as error:
            raise self._away(error) from error
        return {position.partition: max(position.offset, 0) for position in answer}

    def lag(self, topic: str, ends: Mapping[int, int] | None = None) -> int:
        """Records before `ends` (default: before the ends of now) that the group has not committed."""
        committed = self.committed(topic)
        return sum(
            max(0, end - committed.get(number, 0)) for number, end in (ends or self.ends(topic)).items()
        )

    def close(self) -> None:
        """Ends the connection."""
        self._consumer.close()

    def _partitions(self, topic: str) -> list[int]:
        known = self._consumer.list_topics(topic, ANSWER_SECONDS).topics[topic]
        if known.error is not None:
            raise KafkaException(known.error)
        return sorted(known.partitions)

    def _away(self, error: KafkaException) -> KafkaAway:
        cause = error.args[0]
        reason = cause.str() if isinstance(cause, KafkaError) else str(cause)
        return KafkaAway(
            f"Kafka at {self._bootstrap_servers}: {reason}."
            " Check KAFKA_BOOTSTRAP_SERVERS, and the topics by `sluice topics`."
        )
