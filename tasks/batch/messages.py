"""Messages and rows as they travel between the bridge, `process` and `store`, packed as msgpack.

The blobs stay in Redis under the batch's keys, and the Celery tasks carry only the batch's id: payloads are
neither base64-encoded for the broker nor read by the worker's main process.
"""

from typing import NamedTuple, NotRequired, TypedDict

import msgpack

# Longer than any wait of a task: an expired blob only means that the batch is sent again.
KEEP_SECONDS = 900
# How a replayed message is judged: by no rules, or like any other message.
SILENT, WITH_ALERTS = "silent", "alerts"
REDELIVERED = "redelivered"


class Message(NamedTuple):
    """One Kafka record of a domain's topic."""

    partition: int
    offset: int
    timestamp_ms: int
    topic: str  # with bytes that are not UTF-8 as surrogates, by `surrogateescape`
    traceparent: str
    attempts: int
    payload: bytes
    # `SILENT` or `WITH_ALERTS` where it is replayed, `REDELIVERED` where the MQTT broker has sent it again.
    replay: str = ""


class Part(NamedTuple):
    """The input of one `process` task: messages of one domain, by its name; without a name, the first.

    `incarnation` is the topic that they come from, as NAME@ID: a recreated topic has another id.
    """

    domain: str
    # The batch's lowest offset in each partition: no record below it is read again, except by a replay.
    first_offsets: dict[int, int]
    messages: list[Message]
    incarnation: str = ""


class Row(NamedTuple):
    """One line of COPY text and the record that it came from."""

    partition: int
    offset: int
    line: bytes


class Deferred(NamedTuple):
    """Messages of a batch that are not finished, by partition and offset; they join a later batch."""

    soon: frozenset[tuple[int, int]] = frozenset()
    # Messages of users whose outbox is full: they wait for a pause first.
    held: frozenset[tuple[int, int]] = frozenset()


NOTHING_DEFERRED = Deferred()


class Verdict(NamedTuple):
    """The error type and reason for the dead letters of messages that must not be processed any more."""

    error_type: str
    error: str


class PartResult(TypedDict):
    """The result of `process` for `store`: it counts every message of the part once.

    `rows` are new or stored already, `dead` are dead letters; `soon` and `held` name the deferred ones, as in
    `Deferred`. `followed` has the `traceparent` of those whose
    traces are recorded, `generation` is that of the states with which the alerts were judged, and `awaited`
    is what of the outbox must be in the tables before the batch is done.
    """

    batch: str
    part: int
    rows: int
    dead: int
    oldest_ms: int
    soon: NotRequired[list[tuple[int, int]]]
    held: NotRequired[list[tuple[int, int]]]
    followed: NotRequired[list[str]]
    generation: NotRequired[str]
    awaited: NotRequired[dict[str, int]]


def pack_part(part: Part) -> bytes:
    """The part as one blob."""
    first = [part.domain, part.incarnation]
    return bytes(
        msgpack.packb(
            [*first, part.first_offsets, part.messages], use_bin_type=True, unicode_errors="surrogateescape"
        )
    )


def unpack_part(blob: bytes) -> Part:
    """The inverse of `pack_part`."""
    # An older bridge sends neither the incarnation, nor the domain where there is only the first.
    *first, first_offsets, messages = msgpack.unpackb(
        blob, use_list=False, strict_map_key=False, unicode_errors="surrogateescape"
    )
    domain, incarnation = (*first, "", "")[:2]
    return Part(domain, first_offsets, [Message(*fields) for fields in messages], incarnation)


def pack_rows(rows: list[Row]) -> bytes:
    """The rows as one blob."""
    return bytes(msgpack.packb(rows, use_bin_type=True))


def unpack_rows(blob: bytes) -> list[Row]:
    """The inverse of `pack_rows`."""
    return [Row._make(fields) for fields in msgpack.unpackb(blob, use_list=False)]
