"""Reading a Kafka topic to its end."""

import time
from collections.abc import Iterator, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition


def up_to_end(consumer: Consumer, starts: Sequence[TopicPartition]) -> Iterator[Message]:
    """The records from these positions up to an end that each partition has meanwhile.

    The consumer must have `enable.partition.eof`.
    """
    consumer.assign(list(starts))
    # A partition that grows has one end after the other.
    left = {(one.topic, one.partition) for one in starts}
    while left:
        record = consumer.poll(30)
        assert record is not None, "Kafka fell silent while its records were read"
        error = record.error()
        if error is None:
            yield record
            continue
        assert error.code() == KafkaError._PARTITION_EOF, error
        left.discard((record.topic() or "", record.partition() or 0))
    consumer.unassign()


def end_offset(consumer: Consumer, topic: str, partition: int) -> int:
    """The offset after the last record. A partition that was just made has no leader for a moment."""
    deadline = time.monotonic() + 60
    while True:
        try:
            end: int = consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[1]
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return end
