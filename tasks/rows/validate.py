"""Validates messages: each becomes readings, a dead letter, or both; `row_of` makes the row of a reading."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog

from tasks.batch.messages import HintedMessage, Message, Row, owner_of
from tasks.dead_letters.sender import DeadLetter
from tasks.domain import routing
from tasks.domain.declaration import Reading
from tasks.domain.domain import AnyDomain, Source
from tasks.domain.fast import fast_way
from tasks.domain.outcome import Outcome
from tasks.domain.payload import Limits, Refused
from tasks.domain.places import place
from tasks.domain.presence import Said
from tasks.rows import conflicts
from tasks.servers import database

log = structlog.get_logger()


class Received(NamedTuple):
    """A valid reading and the record that it came in.

    `number` is its index in a message that may hold several; None of a domain without a form.
    """

    message: Message
    reading: Reading[Source, Any]
    number: int | None = None

    @property
    def position(self) -> tuple[int, int]:
        """The place of the record in Kafka: partition and offset."""
        return self.message[:2]

    @property
    def place(self) -> int:
        """Its place among the readings of its partition, see `tasks.domain.places`."""
        offset = self.message.offset
        return offset if self.number is None else place(offset, self.number)


class Validated(NamedTuple):
    """The outcome of messages: their readings in order, and the dead letters of the refused.

    `partial` are letters of messages that have readings as well, with the number of those that are wrong.
    `ignored` are messages that hold no reading, and `presence` is what some of them say of their devices.
    `wrong` counts the readings that `dead` is about; a message that cannot be split into readings is one.
    """

    readings: list[Received]
    dead: list[DeadLetter]
    partial: list[tuple[DeadLetter, int]]
    ignored: list[Message]
    wrong: int
    presence: Sequence[Said] = ()


def validate(domain: AnyDomain, messages: list[Message]) -> Validated:
    """Each message as readings, as a dead letter, as both, or as ignored, in order."""
    if domain.form is not None:
        return _validate_formed(domain, messages)
    readings: list[Received] = []
    dead: list[DeadLetter] = []
    validate_fast, validate_one, limits = fast_way(domain), domain.validate, routing.limits()
    new_tuple = tuple.__new__
    for message in messages:
        try:
            reading = validate_fast(
                message.topic, message.payload, message.timestamp_ms, limits
            ) or validate_one(message.topic, message.payload, message.timestamp_ms, limits)
        except Refused as refused:
            dead.append(DeadLetter(message, refused.error_type, refused.reason))
        else:
            # At half the cost of the named tuple's own constructor, as below.
            readings.append(new_tuple(Received, (message, reading, None)))
    return Validated(readings, dead, [], [], len(dead))


def read(domain: AnyDomain, message: Message, limits: Limits) -> Outcome[Reading[Source, Any]]:
    """The readings in a message, and the refusal of others. Raises `Refused` for the whole message.

    A replayed message has the place of the one that was refused: so its readings are the same again.
    """
    content_type, origin = "", message[:2]
    if isinstance(message, HintedMessage):
        content_type, origin = message.content_type, message.origin or origin
    return domain.read(
        message.topic,
        message.payload,
        message.timestamp_ms,
        limits,
        place=origin,
        content_type=content_type,
        owner=owner_of(message),
    )


def _validate_formed(domain: AnyDomain, messages: list[Message]) -> Validated:
    said: list[Said] = []
    found = Validated([], [], [], [], 0, said)
    wrong = 0
    limits = routing.limits()
    for message in messages:
        try:
            outcome = read(domain, message, limits)
        except Refused as refused:
            found.dead.append(DeadLetter(message, refused.error_type, refused.reason))
            wrong += 1
            continue
        for index, reading in outcome.readings:
            found.readings.append(Received(message, reading, index))
        if outcome.refused is not None:
            elements = tuple(index for index, _ in outcome.wrong) if outcome.total > 1 else ()
            error_type, reason = outcome.refused.error_type, outcome.refused.reason
            letter = DeadLetter(message, error_type, reason, elements=elements)
            if outcome.readings:
                found.partial.append((letter, len(outcome.wrong)))
            else:
                found.dead.append(letter)
                wrong += len(outcome.wrong)
        elif not outcome.readings:
            found.ignored.append(message)
            if outcome.online is not None:
                source = domain.parse_topic(message.topic, owner_of(message))
                said.append(Said(*source, outcome.online, message.timestamp_ms))
    return found._replace(wrong=wrong)


def condemn(messages: list[Message], error_type: str, error: str) -> Validated:
    """Each message as a dead letter of this type."""
    dead = [DeadLetter(message, error_type, error) for message in messages]
    return Validated([], dead, [], [], len(dead))


def is_stored(domain: AnyDomain, message: Message) -> bool:
    """Whether each row of a condemned message is stored; False if it cannot be validated.

    Raises `psycopg.Error`.
    """
    try:
        found = validate(domain, [message])
    except Exception as error:  # noqa: BLE001 - it may be the bug that the message is condemned for
        log.info("condemned_not_validated", error=f"{type(error).__name__}: {error}")
        return False
    if not found.readings or found.partial:
        return False
    with database.access() as connection:
        return all(conflicts.is_stored(connection, domain, one.reading.copy_line) for one in found.readings)


def row_of(received: Received) -> Row:
    """The row of a reading, for `store`."""
    message, reading, number = received
    # Not by `place`: each row comes by here, and few have a number.
    offset = message.offset if number is None else received.place
    return tuple.__new__(Row, (message.partition, offset, reading.copy_line))
