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


class HintedMessage(Message):
    """A message with what few records have. It travels beside the others, unseen by older workers.

    `content_type` is MQTT 5's. `origin` is the partition and offset of the record that was refused first, if
    this one is its replay. `owner` is the user who owns the topic, where that does not name one.
    """

    content_type: str = ""
    origin: tuple[int, int] | None = None
    owner: str = ""


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
    offset: int  # of the record; of a domain with a form the place of the reading, see `tasks.domain.places`
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

    `rows` have no dead letter: they are rows, new or stored already, or ignored, which `ignored` counts.
    `dead` have one; `soon` and `held` name the deferred ones, as in `Deferred`. `readings` counts the
    readings that are rows, and `wrong` those that are not; without them each message is one. `partial` names
    the messages that are both: `store` sends their letters. `followed` has the `traceparent` of those whose
    traces are recorded, `generation` is that of the states with which the alerts were judged, and `awaited`
    is what of the outbox must be in the tables before the batch is done.
    """

    batch: str
    part: int
    rows: int
    dead: int
    oldest_ms: int
    readings: NotRequired[int]
    wrong: NotRequired[int]
    ignored: NotRequired[int]
    partial: NotRequired[list[tuple[int, int]]]
    soon: NotRequired[list[tuple[int, int]]]
    held: NotRequired[list[tuple[int, int]]]
    followed: NotRequired[list[str]]
    generation: NotRequired[str]
    awaited: NotRequired[dict[str, int]]


def pack_part(part: Part) -> bytes:
    """The part as one blob."""
    first: list[object] = [part.domain, part.incarnation]
    if HintedMessage in set(map(type, part.messages)):
        first.append(_hints(part.messages))
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
    # At half the cost of the named tuple's own constructor. An older bridge sends fewer fields.
    complete, new_tuple = len(Message._fields), tuple.__new__
    unpacked = [
        new_tuple(Message, fields) if len(fields) == complete else Message(*fields) for fields in messages
    ]
    for index, *hints in first[2] if len(first) > 2 else ():
        unpacked[index] = hinted(unpacked[index], *hints)
    return Part(domain, first_offsets, unpacked, incarnation)


def _hints(messages: list[Message]) -> list[tuple[object, ...]]:
    # An older worker, which has no domain with such owners, takes three.
    return [
        (index, message.content_type, message.origin, *([message.owner] if message.owner else []))
        for index, message in enumerate(messages)
        if isinstance(message, HintedMessage)
    ]


def owner_of(message: Message) -> str:
    """The user who owns the message's topic, where that does not name one; else empty."""
    return message.owner if isinstance(message, HintedMessage) else ""


def hinted(
    message: Message, content_type: str, origin: tuple[int, int] | None, owner: str = ""
) -> HintedMessage:
    """The message with these hints."""
    made = HintedMessage(*message)
    made.content_type, made.origin, made.owner = content_type, origin, owner
    return made


def pack_rows(rows: list[Row]) -> bytes:
    """The rows as one blob."""
    return bytes(msgpack.packb(rows, use_bin_type=True))


def unpack_rows(blob: bytes) -> list[Row]:
    """The inverse of `pack_rows`."""
    new_tuple = tuple.__new__
    return [new_tuple(Row, fields) for fields in msgpack.unpackb(blob, use_list=False)]
