"""How each dead letter stands: open, or what became of it after it was replayed."""

from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg

from ingest.admin.errors import ServerAway
from ingest.admin.postgres import Connection, bounded, connect
from tasks import registry
from tasks.batch.kafka_record import readable
from tasks.dead_letters import replayed as replayed_letters
from tasks.dead_letters.letter import MAX_REFUSALS, Filters, Letter, LetterId
from tasks.dead_letters.read import read_letters
from tasks.dead_letters.replayed import Place
from tasks.domain.domain import AnyDomain
from tasks.servers.topic_reader import TopicReader

# The database is asked about this many letters at once, or fewer if their payloads are large.
AT_ONCE = 500
AT_ONCE_BYTES = 8 * 1024 * 1024
# For one such query; a table that somebody has locked counts as a database that is away.
STATEMENT_SECONDS = 10.0


class State(StrEnum):
    """How a dead letter stands."""

    OPEN = "open"  # not replayed yet
    EXHAUSTED = "exhausted"  # refused too often: only a forced replay takes it
    NO_REPLAY = "cannot be replayed"  # never was in its domain's topic, or is cut
    STORED = "stored"  # replayed, and a row, or a change of an alert in its table
    REFUSED_AGAIN = "refused again"  # replayed, and a newer dead letter stands in its place
    IN_FLIGHT = "in flight"  # replayed, and not yet worked on
    ACKNOWLEDGED = "acknowledged"  # somebody has said that nothing is to be done

    @property
    def is_open(self) -> bool:
        """Whether there still is something to do about it."""
        return self in {State.OPEN, State.EXHAUSTED, State.NO_REPLAY}


class Standing(NamedTuple):
    """A letter and how it stands."""

    letter: Letter
    state: State


def unhandled(letter: Letter) -> State:
    """How a letter stands that was neither replayed nor acknowledged."""
    if not letter.can_be_replayed:
        return State.NO_REPLAY
    return State.EXHAUSTED if letter.attempts >= MAX_REFUSALS else State.OPEN


class Judge(NamedTuple):
    """How letters stand by the bridge's offsets and the places that newer letters have.

    The letters must have been read after the offsets: one is sent before the bridge commits.
    """

    committed: Mapping[int, int]
    refused_again: Set[Place]

    def state(self, letter: Letter, replayed: replayed_letters.Replayed | None) -> State:
        """How one letter stands."""
        if replayed is None:
            return unhandled(letter)
        if replayed.place is None:
            return State.IN_FLIGHT
        if replayed.place == (letter.partition, letter.offset):
            return State.STORED
        return self.outcome(replayed.place)

    def outcome(self, place: Place) -> State:
        """The outcome of a letter that was replayed to this partition and offset."""
        partition, offset = place
        if place == replayed_letters.ACKNOWLEDGED:
            return State.ACKNOWLEDGED
        if place == replayed_letters.NOWHERE:
            return State.STORED
        if place in self.refused_again:
            return State.REFUSED_AGAIN
        return State.STORED if offset < self.committed.get(partition, 0) else State.IN_FLIGHT


def second_place(letter: Letter) -> Place | None:
    """Where the message stood when it was refused again; None if it was refused only once."""
    if letter.attempts > 1 and letter.partition is not None and letter.offset is not None:
        return letter.partition, letter.offset
    return None


class Outlook:
    """Judges letters by what the database and Kafka know at the moment.

    Without a database no letter counts as replayed, and `database_away` says why. Takes about 100 bytes of
    memory for each letter that was sent. Raises `NotNow` when Kafka is away.
    """

    def __enter__(self) -> "Outlook":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def __init__(self, reader: TopicReader, domain: AnyDomain) -> None:
        self._reader = reader
        self._domain = domain
        self._committed = reader.committed(registry.kafka_topic(self._domain))
        self._refused_again: set[Place] = set()
        self._connection: Connection | None = None
        self.database_away = ""

    def standings(self, filters: Filters) -> Iterator[Standing]:
        """Each letter that is meant, once, in Kafka's order."""
        # A letter that replaces another is newer than it.
        self._note_refused_again(filters.since)
        seen: set[LetterId] = set()
        letters = (letter for letter in self._letters(filters) if letter.id not in seen)
        while some := _portion(letters):
            unique = {letter.id: letter for letter in some}
            seen.update(unique)
            known = self.replayed(unique)
            for letter in unique.values():
                yield Standing(letter, self.state(letter, known.get(letter.id)))

    def state(self, letter: Letter, replayed: replayed_letters.Replayed | None) -> State:
        """How one letter stands."""
        return Judge(self._committed, self._refused_again).state(letter, replayed)

    def outcomes(self, places: Iterable[Place], since: datetime) -> list[State]:
        """The outcomes of the messages produced to these partitions and offsets, at that time or later."""
        self._committed = self._reader.committed(registry.kafka_topic(self._domain))
        self._note_refused_again(since)
        judge = Judge(self._committed, self._refused_again)
        return [judge.outcome(place) for place in places]

    def replayed(self, letters: Iterable[LetterId]) -> dict[LetterId, replayed_letters.Replayed]:
        """Those of the letters that were replayed, as far as the database says so."""
        if self.database_away:
            return {}
        try:
            if self._connection is None:
                self._connection = connect()
            with bounded(self._connection, STATEMENT_SECONDS):
                return replayed_letters.find(self._connection, letters)
        except (ServerAway, psycopg.Error) as error:
            self.database_away = " ".join(str(error).split())
            return {}

    def _note_refused_again(self, since: datetime | None = None) -> None:
        for letter in self._letters(Filters(since=since)):
            if place := second_place(letter):
                self._refused_again.add(place)

    def _letters(self, filters: Filters) -> Iterator[Letter]:
        ranges = self._reader.ranges(registry.kafka_dlq_topic(self._domain))
        return read_letters(self._reader, self._domain, ranges, filters)


def _portion(letters: Iterator[Letter]) -> list[Letter]:
    """The next letters, as many as are held in memory at once; none at the end."""
    taken: list[Letter] = []
    size = 0
    for letter in letters:
        taken.append(letter)
        size += len(letter.payload)
        if len(taken) == AT_ONCE or size >= AT_ONCE_BYTES:
            break
    return taken


def envelope(standing: Standing) -> dict[str, Any]:
    """The letter for machines, with how it stands."""
    letter = standing.letter
    return {
        "key": letter.id.key,
        "state": str(standing.state),
        "error_type": letter.error_type,
        "error": letter.error,
        "original_topic": readable(letter.topic),
        "timestamp": letter.refused_at.isoformat(),
        "attempts": letter.attempts,
        "traceparent": letter.traceparent or None,
        "kafka_partition": letter.partition,
        "kafka_offset": letter.offset,
        "payload": printable(letter.payload),
    }


def printable(payload: bytes) -> str | None:
    """The payload as text; None when it is not UTF-8 or holds what a terminal must not get."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character in "\n\t\r" for character in text) else None
