"""Validates messages: each becomes a reading or a dead letter; `row_of` makes the row of a reading."""

from typing import Any, NamedTuple

import structlog

from tasks.batch.messages import Message, Row
from tasks.dead_letters.sender import DeadLetter
from tasks.domain import routing
from tasks.domain.declaration import Reading
from tasks.domain.domain import AnyDomain, Source
from tasks.domain.payload import Refused
from tasks.rows import conflicts
from tasks.servers import database

log = structlog.get_logger()


class Received(NamedTuple):
    """A valid reading and the record that it came in."""

    message: Message
    reading: Reading[Source, Any]

    @property
    def position(self) -> tuple[int, int]:
        """The place of the record in Kafka: partition and offset."""
        return self.message[:2]


def validate(domain: AnyDomain, messages: list[Message]) -> tuple[list[Received], list[DeadLetter]]:
    """Each message as a valid reading or as a dead letter, in order."""
    readings: list[Received] = []
    dead: list[DeadLetter] = []
    validate_one, limits = domain.validate, routing.limits()
    for message in messages:
        try:
            reading = validate_one(message.topic, message.payload, message.timestamp_ms, limits)
        except Refused as refused:
            dead.append(DeadLetter(message, refused.error_type, refused.reason))
        else:
            readings.append(Received(message, reading))
    return readings, dead


def condemn(messages: list[Message], error_type: str, error: str) -> tuple[list[Received], list[DeadLetter]]:
    """Each message as a dead letter of this type, in the form that `validate` returns."""
    return [], [DeadLetter(message, error_type, error) for message in messages]


def is_stored(domain: AnyDomain, message: Message) -> bool:
    """Whether the row of a condemned message is stored; False if it cannot be validated.

    Raises `psycopg.Error`.
    """
    try:
        readings, _ = validate(domain, [message])
    except Exception as error:  # noqa: BLE001 - it may be the bug that the message is condemned for
        log.info("condemned_not_validated", error=f"{type(error).__name__}: {error}")
        return False
    with database.access() as connection:
        return any(conflicts.is_stored(connection, domain, one.reading.copy_line) for one in readings)


def row_of(received: Received) -> Row:
    """The row of a reading, for `store`."""
    return Row(received.message.partition, received.message.offset, received.reading.copy_line)
