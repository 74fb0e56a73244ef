"""The Kafka record that the gateway makes of an MQTT message; Vector makes the same by `vector.toml`."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from tasks.batch import kafka_record
from tasks.batch.messages import REDELIVERED
from tasks.dead_letters import envelope
from tasks.domain.access import NoOwner
from tasks.domain.payload import Refused
from tasks.domain.routing import domain_of
from tasks.registry import Domains
from tasks.settings import Settings

# A record has a key and headers besides its payload.
HEADERS_BYTES = 4096


class KafkaRecord(NamedTuple):
    """A record for Kafka; `refused` is the reason if its topic is that of the dead letters."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, str | bytes | None]]
    refused: Refused | None


def record_of(
    among: Domains,
    topic: str,
    payload: bytes,
    traceparent: str,
    received_at: datetime,
    chosen: Settings,
    admit: Callable[[str, int], None] | None = None,
    *,
    content_type: str = "",
    owner: str | NoOwner = "",
    redelivered: bool = False,
) -> KafkaRecord:
    """The record of a message: its payload untouched under its source's key, or a dead letter, of its domain.

    `received_at` must be in UTC; an empty `traceparent` or `content_type` is none. `admit` is called with the
    user and the payload's bytes, and raises `Refused` for what is too much. `owner` is the user by the access
    lists, or why there is none, where the topic does not name one. `redelivered` are message and
    record where the broker has sent it before.
    """
    # A message by a subscription of an older session is refused by the default domain.
    domain = among[0]
    try:
        domain = domain_of(topic, among)
        user = _known(owner)
        source = domain.parse_topic(topic, user)
        _refuse_too_large(payload, chosen.kafka_max_message_bytes - HEADERS_BYTES)
        if admit is not None:
            admit(source.user_id, len(payload))
    except Refused as refused:
        return KafkaRecord(
            domain.qualified(chosen.kafka_dlq_topic),
            envelope.key_without_coordinates(topic, payload),
            envelope.envelope(topic, payload, refused.error_type, refused.reason, traceparent=traceparent),
            [],
            refused,
        )
    headers: list[tuple[str, str | bytes | None]] = [
        ("mqtt_topic", topic.encode()),
        ("received_at", received_at.isoformat(timespec="microseconds").encode()),
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    if content_type and domain.form is not None:
        headers.append((kafka_record.CONTENT_TYPE, content_type.encode()))
    if user:
        headers.append((kafka_record.OWNER, user.encode()))
    if redelivered:
        headers.append((kafka_record.REPLAY, REDELIVERED.encode()))
    key = f"{source.user_id}/{source.device_id}".encode()
    return KafkaRecord(domain.qualified(chosen.kafka_topic), key, payload, headers, None)


def _known(owner: str | NoOwner) -> str:
    if isinstance(owner, NoOwner):
        raise Refused("UnknownOwner", owner.reason)
    return owner


def _refuse_too_large(payload: bytes, most: int) -> None:
    if len(payload) > most:
        raise Refused(
            "TooLarge", f"the payload has {len(payload)} bytes; at most {most} fit into a Kafka record"
        )
