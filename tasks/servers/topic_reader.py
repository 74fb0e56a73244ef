"""Reads ranges of a Kafka topic outside any consumer group, in bounded memory."""

from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from tasks.errors import NotNow
from tasks.servers import kafka
from tasks.settings import settings

ANSWER_SECONDS = 10.0
# A read that returns nothing for this long, though there is more, has failed.
SILENCE_SECONDS = 30.0
WAIT_SECONDS = 0.5

Range = tuple[int, int]  # from the first offset up to, and without, the second


class KafkaSilent(NotNow):
    """Kafka does not return records that it has; check KAFKA_BOOTSTRAP_SERVERS and the brokers."""


class TopicReader:
    """One consumer that joins no group and commits nothing, and fetches about `ahead_kbytes` ahead.

    Every method raises `KafkaSilent` or `NotNow` within a minute when Kafka is away.
    """

    def __init__(self, ahead_kbytes: int = 16_384) -> None:
        chosen = settings()
        self._group = chosen.kafka_group
        self._consumer = Consumer(
            {
                **kafka.connection(chosen),
                # A consumer that never subscribes is not a member of its group, but may query its offsets.
                "group.id": self._group,
                "client.id": "sluice-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": ahead_kbytes,
                "log_level": 0,
            }
        )

    def __enter__(self) -> "TopicReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._consumer.close()

    def ranges(self, topic: str) -> dict[int, Range]:
        """The range of each partition: from the offset of its oldest record to that of the next one."""
        try:
            return {
                number: self._consumer.get_watermark_offsets(TopicPartition(topic, number), ANSWER_SECONDS)
                for number in self._partitions(topic)
            }
        except KafkaException as error:
            raise _silent(topic, error) from error

    def committed(self, topic: str) -> dict[int, int]:
        """The offset that the bridge has committed in each partition; 0 if none."""
        return {number: max(offset, 0) for number, (offset, _) in self.marks(topic).items()}

    def marks(self, topic: str) -> dict[int, tuple[int, str]]:
        """By partition the offset that the bridge has committed, negative if none, and its metadata."""
        try:
            answer = self._consumer.committed(
                [TopicPartition(topic, number) for number in self._partitions(topic)], ANSWER_SECONDS
            )
        except KafkaException as error:
            raise _silent(topic, error) from error
        return {position.partition: (position.offset, position.metadata or "") for position in answer}

    def offsets_at(self, topic: str, time_ms: int) -> dict[int, int]:
        """By partition the offset of the first record with this timestamp or a later one, or the end."""
        ranges = self.ranges(topic)
        try:
            answer = self._consumer.offsets_for_times(
                [TopicPartition(topic, number, max(time_ms, 0)) for number in ranges], ANSWER_SECONDS
            )
        except KafkaException as error:
            raise _silent(topic, error) from error
        return {
            position.partition: position.offset if position.offset >= 0 else ranges[position.partition][1]
            for position in answer
        }

    def records(self, topic: str, ranges: Mapping[int, Range]) -> Iterator[KafkaMessage]:
        """The records of the ranges, in order in each partition; skips those that retention has dropped."""
        waiting = {number: end for number, (start, end) in ranges.items() if start < end}
        if not waiting:
            return
        try:
            starts = [TopicPartition(topic, number, ranges[number][0]) for number in waiting]
            self._consumer.assign(starts)
            # The client remembers a pause.
            self._consumer.resume(starts)
            # Counts only waits, because the caller may take its time between them.
            silent = 0.0
            while waiting:
                records = self._consumer.consume(500, WAIT_SECONDS)
                silent = 0.0 if records else silent + WAIT_SECONDS
                if silent > SILENCE_SECONDS:
                    raise KafkaSilent(f"{topic}: nothing for {SILENCE_SECONDS:.0f} s")
                for record in records:
                    number = record.partition()
                    if number not in waiting or _failed(topic, record):
                        continue
                    offset = record.offset()
                    ended = record.error() is not None or offset is None
                    if not ended and offset is not None and offset < waiting[number]:
                        yield record
                    if ended or (offset is not None and offset + 1 >= waiting[number]):
                        self._consumer.pause([TopicPartition(topic, number)])
                        del waiting[number]
        except KafkaException as error:
            raise _silent(topic, error) from error
        finally:
            self._consumer.unassign()

    def _partitions(self, topic: str) -> list[int]:
        known = self._consumer.list_topics(topic, ANSWER_SECONDS).topics[topic]
        if known.error is not None:
            raise KafkaException(known.error)
        return sorted(known.partitions)


def chunks(records: Iterable[KafkaMessage], count: int, size: int) -> Iterator[list[KafkaMessage]]:
    """The records in lists of at most `count`, each ended by the record that reaches `size` bytes."""
    chunk: list[KafkaMessage] = []
    held = 0
    for record in records:
        chunk.append(record)
        held += len(record.value() or b"")
        if len(chunk) >= count or held >= size:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _failed(topic: str, record: KafkaMessage) -> bool:
    """Whether this is an error from which the client recovers by itself; raises any other."""
    error = record.error()
    if error is None or error.code() == KafkaError._PARTITION_EOF:
        return False
    if error.fatal():
        raise KafkaSilent(f"{topic}: {error.str()}")
    return True


def _silent(topic: str, error: KafkaException) -> KafkaSilent:
    cause = error.args[0]
    return KafkaSilent(f"{topic}: {cause.str() if isinstance(cause, KafkaError) else cause}")
