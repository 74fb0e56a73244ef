"""Reads ranges of a Kafka topic outside any consumer group, in bounded memory."""

from collections.abc import Generator, Iterable, Iterator, Mapping

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient

from tasks.errors import NotNow
from tasks.servers import kafka
from tasks.settings import settings

ANSWER_SECONDS = 10.0
# A read that returns nothing for this long, though there is more, has failed.
SILENCE_SECONDS = 30.0
WAIT_SECONDS = 0.5
AT_ONCE = 500

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
        self._admin: AdminClient | None = None
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
                # The records to read exist already: a broker that holds back an answer only holds up the next
                # question on the connection. And once the buffers have room, there is no reason to wait.
                "fetch.wait.max.ms": 10,
                "fetch.queue.backoff.ms": 20,
                "log_level": 0,
            }
        )

    def __enter__(self) -> "TopicReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._admin = None
        self._consumer.close()

    def topic_id(self, topic: str) -> str:
        """The id that Kafka gives the topic besides its name: a topic that is made again gets another."""
        if self._admin is None:
            self._admin = AdminClient({**kafka.connection(settings()), "log_level": 0})
        try:
            asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_SECONDS)
            return str(asked[topic].result(2 * ANSWER_SECONDS).topic_id)
        except KafkaException as error:
            raise _silent(topic, error) from error
        except TimeoutError as error:
            raise KafkaSilent(f"{topic}: no answer within {2 * ANSWER_SECONDS:.0f} s") from error

    def ranges(self, topic: str) -> dict[int, Range]:
        """The range of each partition: from the offset of its oldest record to that of the next one."""
        try:
            partitions = self._partitions(topic)
            # One request to each broker for all partitions; the oldest and the next are times of their own.
            starts, ends = (
                self._offsets(topic, dict.fromkeys(partitions, which))
                for which in (OFFSET_BEGINNING, OFFSET_END)
            )
        except KafkaException as error:
            raise _silent(topic, error) from error
        return {number: (starts[number], ends[number]) for number in partitions}

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
            found = self._offsets(topic, dict.fromkeys(ranges, max(time_ms, 0)))
        except KafkaException as error:
            raise _silent(topic, error) from error
        return {number: found[number] if found[number] >= 0 else end for number, (_, end) in ranges.items()}

    def records(self, topic: str, ranges: Mapping[int, Range]) -> Generator[KafkaMessage, None, None]:
        """The records of the ranges, in order in each partition; skips those that retention has dropped."""
        waiting = {number: end for number, (start, end) in ranges.items() if start < end}
        if not waiting:
            return
        try:
            starts = [TopicPartition(topic, number, ranges[number][0]) for number in waiting]
            self._consumer.assign(starts)
            # Counts only waits, because the caller may take its time between them.
            silent = 0.0
            while waiting:
                records = self._some()
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
                        # Not by a pause, which the client remembers: resumed, it fetches a second later.
                        self._consumer.incremental_unassign([TopicPartition(topic, number)])
                        del waiting[number]
        except KafkaException as error:
            raise _silent(topic, error) from error
        finally:
            self._consumer.unassign()

    def _some(self) -> list[KafkaMessage]:
        """The next records, as soon as there is one; none after `WAIT_SECONDS` without any."""
        # With time to wait, `consume` waits for as many as were asked for.
        if records := self._consumer.consume(AT_ONCE, 0):
            return records
        record = self._consumer.poll(WAIT_SECONDS)
        return [] if record is None else [record]

    def _offsets(self, topic: str, times: Mapping[int, int]) -> dict[int, int]:
        """By partition the offset of the first record with this timestamp or a later one; -1 without one."""
        wanted = [TopicPartition(topic, number, time_ms) for number, time_ms in times.items()]
        answer = self._consumer.offsets_for_times(wanted, ANSWER_SECONDS)
        for position in answer:
            if position.error is not None:
                raise KafkaException(position.error)
        return {position.partition: position.offset for position in answer}

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
    """Whether the client recovers from this error on its own; raises any other."""
    error = record.error()
    if error is None or error.code() == KafkaError._PARTITION_EOF:
        return False
    if error.fatal():
        raise KafkaSilent(f"{topic}: {error.str()}")
    return True


def _silent(topic: str, error: KafkaException) -> KafkaSilent:
    cause = error.args[0]
    return KafkaSilent(f"{topic}: {cause.str() if isinstance(cause, KafkaError) else cause}")
