"""A Kafka record of a domain's topic as the message that the pipeline works on."""

from typing import Any

from confluent_kafka import Message as KafkaMessage

from tasks.batch.messages import Message, hinted

# Headers that a replay adds to those of the gateway. The record's own timestamp is that of the replay, so
# that Kafka's retention does not drop an old message before it is read.
ATTEMPTS = "attempts"  # how often the message has been refused
REPLAY = "replay"  # `silent` or `alerts`; by the gateway `redelivered`
REPLAY_OF = "replay_of"  # the dead letter
TIMESTAMP = "timestamp_ms"  # of the record that was refused first
ORIGIN = "origin"  # partition/offset of that record, which the keys of its readings may be made of
CONTENT_TYPE = "content_type"  # of MQTT 5; also of messages that are not replayed
OWNER = "owner"  # the user who owns the topic by the access lists; also of messages that are not replayed
# What every record of the gateway has, and those of traced messages.
_TOPIC, _UNREAD, _TRACEPARENT = "mqtt_topic", "received_at", "traceparent"


def message_of(record: KafkaMessage) -> Message:
    """The message of a record: always the same for the same record."""
    topic = traceparent = ""
    headers: Any = record.headers()  # of a record that was consumed, a list of pairs
    for name, header in headers or ():
        if name == _TOPIC:
            topic = _topic_text(header)
        elif name == _TRACEPARENT:
            traceparent = header_text(header)
        elif name != _UNREAD:
            return _with_all_headers(record)
    # At half the cost of a named tuple's own constructor.
    return tuple.__new__(
        Message,
        (
            record.partition() or 0,
            record.offset() or 0,
            record.timestamp()[1],
            topic,
            traceparent,
            0,
            record.value() or b"",
            "",
        ),
    )


def _with_all_headers(record: KafkaMessage) -> Message:
    """The same for records with headers that few have."""
    headers = dict(record.headers() or ())
    message = Message(
        record.partition() or 0,
        record.offset() or 0,
        _number(headers.get(TIMESTAMP)) or record.timestamp()[1],
        _topic_text(headers.get(_TOPIC)),
        header_text(headers.get(_TRACEPARENT)),
        _number(headers.get(ATTEMPTS)),
        record.value() or b"",
        header_text(headers.get(REPLAY)),
    )
    content_type, origin = header_text(headers.get(CONTENT_TYPE)), _place(header_text(headers.get(ORIGIN)))
    owner = header_text(headers.get(OWNER))
    return hinted(message, content_type, origin, owner) if content_type or origin or owner else message


def header_text(header: str | bytes | None) -> str:
    """A header as text; empty without one."""
    return header.decode(errors="replace") if isinstance(header, bytes) else ""


def readable(topic: str) -> str:
    """The topic of a message for people: a byte that is not UTF-8 becomes the escape `\\xff`."""
    return topic.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _topic_text(header: str | bytes | None) -> str:
    # Invalid UTF-8 becomes surrogates, which no id may hold; a replacement character would be part of an id.
    return header.decode(errors="surrogateescape") if isinstance(header, bytes) else ""


def _place(text: str) -> tuple[int, int] | None:
    partition, _, offset = text.partition("/")
    found = _number(partition.encode()), _number(offset.encode())
    return found if text == "/".join(map(str, found)) else None


def _number(header: str | bytes | None) -> int:
    # No count of refusals and no time is this long: a longer header is not ours.
    return int(header) if header and header.isdigit() and len(header) < 16 else 0
