"""Sends dead letters: messages that cannot become rows, whole, with the reason, confirmed by Kafka.

The record's key is the coordinates of the message, so that a dead letter that had to be sent twice (a worker
was killed between Kafka's confirmation and its own note of it) is recognisable as one.
"""

from collections import Counter
from functools import lru_cache
from typing import Any, NamedTuple

import structlog
from confluent_kafka import KafkaException, Producer

from tasks import registry
from tasks.batch.messages import HintedMessage, Message
from tasks.dead_letters.envelope import envelope, key
from tasks.domain.domain import AnyDomain
from tasks.errors import DeadLettersUnconfirmed
from tasks.observe.metrics import several as metrics
from tasks.servers import kafka
from tasks.servers.redis_client import DEAD_LETTER_TYPES, client, refused_key, text
from tasks.settings import settings

log = structlog.get_logger()

LINGER_MS = 2
CONFIRM_SECONDS = 30.0
# Offsets are kept only until the lane has committed past them; this removes those of a lane that is gone.
REMEMBER_SECONDS = 86_400


class DeadLetter(NamedTuple):
    """A message that did not become a row, and why; for a conflict with the row `stored` in its place.

    `elements` are the indexes of the readings that were refused, of a message with several.
    """

    message: Message
    error_type: str
    error: str
    stored: dict[str, Any] | None = None
    elements: tuple[int, ...] = ()


def send(domain: AnyDomain, dead: list[DeadLetter], first_offsets: dict[int, int]) -> None:
    """Sends the dead letters of a part to the domain's topic for them, and returns when each is confirmed.

    Those that an earlier run of the same messages has sent already are left out; `first_offsets` are the
    batch's lowest offsets by partition, below which no record can come again. Raises
    `DeadLettersUnconfirmed` when Kafka does not confirm in time, and `redis.RedisError`.
    """
    came_by, goes_to = registry.kafka_topic(domain), registry.kafka_dlq_topic(domain)
    unsent = _without_sent(came_by, dead, first_offsets)
    if not unsent:
        return
    producer = kafka_producer()
    failures: list[str] = []

    def confirm(error: Any, _: Any) -> None:
        if error is not None:
            failures.append(str(error))

    for letter in unsent:
        value = _envelope_of(came_by, letter)
        record_key = key(came_by, letter.message.partition, letter.message.offset)
        try:
            producer.produce(goes_to, value, record_key, on_delivery=confirm)
        except BufferError:
            producer.flush(CONFIRM_SECONDS)
            produce_or_raise(producer, goes_to, value, record_key, confirm)
    waiting = producer.flush(CONFIRM_SECONDS)
    if waiting or failures:
        close()
        raise DeadLettersUnconfirmed(f"{waiting} unanswered, {len(failures)} failed: {failures[:1]}")
    _remember(came_by, unsent)
    for error_type, count in Counter(letter.error_type for letter in unsent).items():
        metrics.DEAD_LETTERED.add(count, error_type)
    log.info("dead_lettered", count=len(unsent), error_types=sorted({letter.error_type for letter in unsent}))


def produce_or_raise(producer: Producer, topic: str, value: bytes, record_key: bytes, confirm: Any) -> None:
    """Produces a record. Raises `DeadLettersUnconfirmed` when the producer does not take it."""
    try:
        producer.produce(topic, value, record_key, on_delivery=confirm)
    except (BufferError, KafkaException) as error:
        raise DeadLettersUnconfirmed(str(error)) from error


def _envelope_of(kafka_topic: str, letter: DeadLetter) -> bytes:
    message = letter.message
    return envelope(
        message.topic,
        message.payload,
        letter.error_type,
        letter.error,
        traceparent=message.traceparent,
        attempts=message.attempts + 1,
        kafka_topic=kafka_topic,
        kafka_partition=message.partition,
        kafka_offset=message.offset,
        kafka_timestamp_ms=message.timestamp_ms,
        **({} if letter.stored is None else {"stored": letter.stored}),
        **({"elements": letter.elements} if letter.elements else {}),
        **(_hints(message) if isinstance(message, HintedMessage) else {}),
    )


def _hints(message: HintedMessage) -> dict[str, Any]:
    return {
        **({"content_type": message.content_type} if message.content_type else {}),
        **({} if message.origin is None else {"origin": message.origin}),
        **({"owner": message.owner} if message.owner else {}),
    }


def _without_sent(topic: str, dead: list[DeadLetter], first_offsets: dict[int, int]) -> list[DeadLetter]:
    partitions = sorted({letter.message.partition for letter in dead})
    pipeline = client().pipeline(transaction=False)
    for partition in partitions:
        pipeline.zremrangebyscore(refused_key(topic, partition), "-inf", f"({first_offsets[partition]}")
        pipeline.zrange(refused_key(topic, partition), 0, -1)
    sent = {
        (partition, text(member))
        for partition, members in zip(partitions, pipeline.execute()[1::2], strict=True)
        for member in members
    }
    return [letter for letter in dead if (letter.message.partition, _member(letter.message)) not in sent]


def _remember(topic: str, sent: list[DeadLetter]) -> None:
    by_partition: dict[int, dict[str, float]] = {}
    for letter in sent:
        by_partition.setdefault(letter.message.partition, {})[_member(letter.message)] = letter.message.offset
    pipeline = client().pipeline(transaction=False)
    for partition, offsets in by_partition.items():
        pipeline.zadd(refused_key(topic, partition), offsets)
        pipeline.expire(refused_key(topic, partition), REMEMBER_SECONDS)
    for letter in sent:
        pipeline.hincrby(DEAD_LETTER_TYPES, letter.error_type, 1)
    pipeline.execute()


def _member(message: Message) -> str:
    # With the timestamp, because offsets start again in a recreated topic.
    return f"{message.offset}:{message.timestamp_ms}"


@lru_cache
def kafka_producer() -> Producer:
    """Opened at the first dead letter, thus after the fork, which librdkafka's threads do not survive."""
    chosen = settings()
    return Producer(
        {
            **kafka.connection(chosen),
            "client.id": "sluice-dead-letters",
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": LINGER_MS,
            "compression.type": "lz4",
            "message.max.bytes": 2 * chosen.kafka_max_message_bytes,
            "delivery.timeout.ms": int(CONFIRM_SECONDS * 1000),
        }
    )


def close() -> None:
    """Drops the producer; the next dead letter opens a new one."""
    if kafka_producer.cache_info().currsize:
        kafka_producer().flush(5)
        kafka_producer.cache_clear()
