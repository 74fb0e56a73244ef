"""The value and the key of a dead letter's record, as the gateway and the workers write them."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from tasks.batch.kafka_record import readable
from tasks.settings import settings


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
    `kafka_timestamp_ms`, if there are any.

    A payload that is larger than any record of a domain's topic may be is cut, and `payload_bytes` has its
    full size. If the topic is not UTF-8, `original_topic_base64` has its bytes. A conflict has the row in its
    place as `stored`, or the row's key if the row is very large. A message with a content type has it as
    `content_type`, and a replayed one the partition and offset of the first record as `origin`. A message
    whose topic is owned by the access lists has its user as `owner`. If a message has several readings,
    `elements` has the indexes of those that were refused.
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
    """Key of the dead letter of a message that never reached a domain's topic."""
    return b"mqtt/" + hashlib.sha256(_bytes(topic) + b"\0" + payload).hexdigest().encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(topic: str) -> bytes:
    return topic.encode(errors="surrogateescape")
