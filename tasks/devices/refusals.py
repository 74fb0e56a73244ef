"""Counts the dead letters of each device from their Kafka topic, wherever they were refused."""

from collections.abc import Iterable

from confluent_kafka import Message as Record

from tasks import registry
from tasks.dead_letters.letter import Letter
from tasks.dead_letters.read import letter_of
from tasks.devices import tables
from tasks.devices.activity import DAY_MS, storable_ms
from tasks.devices.rejected import Notices
from tasks.devices.tables import Refusals
from tasks.domain.domain import AnyDomain
from tasks.servers import database
from tasks.servers.topic_reader import Range, TopicReader
from tasks.text.wording import shorten

# The most that one look reads of a partition, of all of them well within a turn; the next one goes on there.
MOST_LETTERS = 2000
MOST_REASON = 500
AHEAD_KBYTES = 1024


def count(reader: TopicReader, domain: AnyDomain, notices: Notices | None = None) -> None:
    """Counts the domain's new dead letters, and takes their notices. Raises `NotNow`, `psycopg.Error`."""
    topic = registry.kafka_dlq_topic(domain)
    with database.access() as connection:
        before: dict[str, int] | None = tables.position(connection, topic)
    reached = before or {}
    ranges = {number: new(own, reached.get(str(number))) for number, own in reader.ranges(topic).items()}
    ends = {str(number): end for number, (_, end) in ranges.items()}
    if reached == ends:
        return
    found = by_device(domain, reader.records(topic, ranges), notices)
    with database.access() as connection, connection.transaction():
        tables.add_refusals(connection, domain.name, found)
        tables.set_position(connection, topic, before, ends)


def new(own: Range, reached: int | None) -> Range:
    """The part of a partition's range to read: after what was counted, and not too much at once."""
    low, end = own
    # A topic that was recreated begins again.
    start = low if reached is None or reached > end else max(low, reached)
    return start, min(end, start + MOST_LETTERS)


def by_device(domain: AnyDomain, records: Iterable[Record], notices: Notices | None = None) -> list[Refusals]:
    """The refusals among the records of the topic; those that name no device are left out."""
    found: dict[tuple[str, str], Refusals] = {}
    for record in records:
        letter = letter_of(record)
        if letter is None or (source := letter.source) is None:
            continue
        if notices is not None:
            notices.add(domain, source, letter)
        found[source] = _added(found.get(source), source, letter)
    return list(found.values())


def _added(old: Refusals | None, source: tuple[str, str], letter: Letter) -> Refusals:
    at_ms = storable_ms(letter.timestamp_ms)
    days = {} if old is None else old.days
    day = at_ms // DAY_MS
    days[day] = days.get(day, 0) + 1
    last = old is None or letter.refused_at >= old.refused_at
    return Refusals(
        *source,
        at_ms if old is None else min(old.first_ms, at_ms),
        at_ms if old is None else max(old.last_ms, at_ms),
        letter.refused_at if old is None or last else old.refused_at,
        _storable(letter.error_type) if old is None or last else old.error_type,
        _storable(letter.error) if old is None or last else old.reason,
        days,
    )


def _storable(text: str) -> str:
    # Postgres takes neither NUL nor half of a surrogate pair.
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return shorten(clean, MOST_REASON)
