"""Reading a Kafka topic to its end."""

from collections.abc import Iterator, Sequence

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition


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
