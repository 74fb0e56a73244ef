"""Dead letters: what cannot become a row goes to a Kafka topic, whole, with the reason, and confirmed.

The record's key are the coordinates of the message, so that a dead letter that had to be sent twice (a
worker killed between Kafka's confirmation and its own note of it) is recognisable as one.
"""

import base64
import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import structlog
from confluent_kafka import KafkaException, Producer

from tasks import kafka, metrics, registry
from tasks.batch import Message
from tasks.domain import AnyDomain
from tasks.errors import DeadLettersUnconfirmed
from tasks.outbox_entry import Entry
from tasks.records import readable
from tasks.redis_client import DEAD_LETTER_TYPES, client, refused_key, text
from tasks.replays.letters import ALERT_REFUSED, NOTICE_REFUSED, TOO_MANY_ALERTS
from tasks.settings import settings

log = structlog.get_logger()

CONFIRM_SECONDS = 30.0
# Offsets are remembered only until the lane has committed past them; a lane that is gone leaves them to this.
REMEMBER_SECONDS = 86_400
ALERT_CONFIRM_SECONDS = 3.0


class DeadLetter(NamedTuple):
    """A message that became no row, and why; of a conflict with the row that is `stored` in its place."""

    message: Message
    error_type: str
    error: str
    stored: dict[str, Any] | None = None


def envelope(
    topic: str,
    payload: bytes,
    error_type: str,
    error: str,
    *,
    traceparent: str = "",
    attempts: int = 1,
    **coordinates: Any,
) -> bytes:
    """The dead letter's value: JSON with `original_topic`, `error`, `timestamp` (of the refusal, UTC),
    `payload_base64`, `error_type`, `attempts`, `traceparent`, and the coordinates, with the record's
    `kafka_timestamp_ms`, where there are any.

    A payload that is larger than any record of a domain's topic may be is cut, and `payload_bytes` says
    how many bytes it had. Of a topic that is no UTF-8 `original_topic_base64` has the bytes. A conflict has
    the row in its place as `stored`, or the row's key where the row is very large.
    """
    largest = settings().kafka_max_message_bytes
    shown = readable(topic)
    return json.dumps(
        {
            "original_topic": shown,
            **({"original_topic_base64": _base64(_bytes(topic))} if shown != topic else {}),
            "error": error,
            "timestamp": datetime.now(UTC).isoformat(),
            "payload_base64": _base64(payload[:largest]),
            **({"payload_bytes": len(payload)} if len(payload) > largest else {}),
            "error_type": error_type,
            "attempts": attempts,
            "traceparent": traceparent or None,
            "kafka_topic": None,
            "kafka_partition": None,
            "kafka_offset": None,
            "kafka_timestamp_ms": None,
            **coordinates,
        }
    ).encode()


def key(topic: str, partition: int, offset: int) -> bytes:
    """Key of the dead letter of one Kafka record."""
    return f"{topic}/{partition}/{offset}".encode()


def key_without_coordinates(topic: str, payload: bytes) -> bytes:
    """Key of the dead letter of a message that never reached Kafka otherwise."""
    return b"mqtt/" + hashlib.sha256(_bytes(topic) + b"\0" + payload).hexdigest().encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(topic: str) -> bytes:
    return topic.encode(errors="surrogateescape")


def send(domain: AnyDomain, dead: list[DeadLetter], first_offsets: dict[int, int]) -> None:
    """Sends the dead letters of a part to the domain's topic for them, and returns when each is confirmed.

    Those that an earlier run of the same messages has sent already are left out; `first_offsets` are the
    batch's lowest offset in each partition, below which nothing can come again. Raises
    `DeadLettersUnconfirmed` when Kafka does not confirm in time, and `redis.RedisError`.
    """
    came_by, goes_to = registry.kafka_topic(domain), registry.kafka_dlq_topic(domain)
    unsent = _without_sent(came_by, dead, first_offsets)
    if not unsent:
        return
    producer = _producer()
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
            _produce_again(producer, goes_to, value, record_key, confirm)
    waiting = producer.flush(CONFIRM_SECONDS)
    if waiting or failures:
        close()
        raise DeadLettersUnconfirmed(f"{waiting} unanswered, {len(failures)} failed: {failures[:1]}")
    _remember(came_by, unsent)
    for error_type, count in Counter(letter.error_type for letter in unsent).items():
        metrics.DEAD_LETTERED.add(count, error_type)
    log.info("dead_lettered", count=len(unsent), error_types=sorted({letter.error_type for letter in unsent}))


def send_alert_change(piece: Entry, error: str) -> None:
    """Sends a change of an alert, or a row of one, that the tables do not take; returns when it is confirmed.

    Its payload is the piece of the outbox, as JSON with its `id` there; its key names it for ever. Raises
    `DeadLettersUnconfirmed`.
    """
    payload = json.dumps({"id": piece.id, **piece.document}, ensure_ascii=False).encode()
    device_id = str(piece.document.get("device_id"))
    _send_about_alerts([(piece.user, device_id, payload)], ALERT_REFUSED, error)
    log.error("alert_change_refused", user_id=piece.user, error=error)


def send_too_many_alerts(letters: list[tuple[str, str, bytes]]) -> None:
    """Sends alerts that were refused because their users have too many; returns when they are confirmed.

    Each is the user, the device, and as the payload the alert as it would have been published; its key names
    it for ever. Raises `DeadLettersUnconfirmed`.
    """
    most = settings().open_alerts_per_user
    error = f"the user has {most:,} open alerts, the most that are allowed (OPEN_ALERTS_PER_USER)"
    _send_about_alerts(letters, TOO_MANY_ALERTS, error)
    for user_id, count in Counter(user_id for user_id, _, _ in letters).items():
        log.warning("too_many_alerts", user_id=user_id, refused=count, allowed=most)


def send_notice(user_id: str, device_id: str, payload: bytes, error: str) -> None:
    """Sends a notice of an alert that the MQTT broker does not take; returns when it is confirmed.

    Its key names it for ever. Raises `DeadLettersUnconfirmed`.
    """
    _send_about_alerts([(user_id, device_id, payload)], NOTICE_REFUSED, error)
    log.error("notice_given_up", user_id=user_id, error=error)


def _send_about_alerts(letters: list[tuple[str, str, bytes]], error_type: str, error: str) -> None:
    """Sends them and awaits their confirmation; each is the user, the device and the payload."""
    producer = _producer()
    failures: list[str] = []

    def confirm(failure: Any, _: Any) -> None:
        if failure is not None:
            failures.append(str(failure))

    for user_id, device_id, payload in letters:
        topic = registry.kafka_dlq_topic(registry.of_device(device_id) or registry.default())
        value = envelope(f"users/{user_id}/alerts", payload, error_type, error)
        record_key = b"alert/" + hashlib.sha256(payload).hexdigest().encode()
        _produce_again(producer, topic, value, record_key, confirm)
    waiting = producer.flush(ALERT_CONFIRM_SECONDS)
    if waiting or failures:
        close()
        raise DeadLettersUnconfirmed(f"{waiting} unanswered, {len(failures)} failed: {failures[:1]}")
    metrics.DEAD_LETTERED.add(len(letters), error_type)
    client().hincrby(DEAD_LETTER_TYPES, error_type, len(letters))


def _produce_again(producer: Producer, topic: str, value: bytes, record_key: bytes, confirm: Any) -> None:
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
    )


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
    # With the timestamp, because offsets start again when a topic is made anew.
    return f"{message.offset}:{message.timestamp_ms}"


@lru_cache
def _producer() -> Producer:
    """Opened at the first dead letter, thus after the fork: librdkafka's threads do not survive one."""
    chosen = settings()
    return Producer(
        {
            **kafka.connection(chosen),
            "client.id": "sluice-dead-letters",
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "compression.type": "lz4",
            "message.max.bytes": 2 * chosen.kafka_max_message_bytes,
            "delivery.timeout.ms": int(CONFIRM_SECONDS * 1000),
        }
    )


def close() -> None:
    """Drops the producer; the next dead letter opens a new one."""
    if _producer.cache_info().currsize:
        _producer().flush(5)
        _producer.cache_clear()
