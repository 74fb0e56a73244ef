"""The oldest unhandled dead letter of each domain, found before Kafka's retention drops it.

A letter is handled once it was replayed and Kafka or a table has confirmed that, or once an operator has
acknowledged it. Below a mark in each partition every letter is handled, so a look reads from there and stops
at the first unhandled one; a mark that Redis has lost starts again at the beginning.
"""

import json
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import psycopg
import structlog
from confluent_kafka import Message as KafkaMessage

from tasks import registry
from tasks.dead_letters import replayed
from tasks.dead_letters.read import letter_of
from tasks.domain.domain import AnyDomain
from tasks.errors import NotNow
from tasks.servers import database
from tasks.servers.redis_client import DEAD_LETTERS_OLDEST, client, handled_key
from tasks.servers.topic_reader import Range, TopicReader, chunks

log = structlog.get_logger()

# The most that one look reads of a partition, besides what the client fetches ahead.
MOST_LETTERS = 2000
MOST_BYTES = 8_388_608
AT_ONCE = 500
AHEAD_KBYTES = 1024
# The marks start again each day: letters may have been made open again, or the topic recreated.
MARKS_SECONDS = 86_400


def oldest_seconds() -> dict[str, float] | None:
    """The age of each domain's oldest unhandled letter, 0 without one, as of the last look.

    None before the first look. Raises `redis.RedisError`.
    """
    found = _found()
    now = time.time()
    return {name: max(0.0, now - at) if at else 0.0 for name, at in found.items()} or None


def watch() -> None:
    """Looks for the oldest unhandled letter of each domain. Does not wait for a server that is away.

    If a look fails, the age from the last one stays and grows. Raises `redis.RedisError`.
    """
    found = _found()
    domains = registry.domains()
    try:
        with TopicReader(AHEAD_KBYTES) as reader:
            for domain in domains:
                found[domain.name] = look(reader, domain)
    except (NotNow, psycopg.Error) as error:
        log.warning("dead_letters_not_watched", error=str(error).strip())
    names = {domain.name for domain in domains}
    client().set(DEAD_LETTERS_OLDEST, json.dumps({name: at for name, at in found.items() if name in names}))


def look(reader: TopicReader, domain: AnyDomain) -> float | None:
    """When the oldest unhandled letter came (s since 1970); None when all are handled.

    If more letters are handled than a look may read, the first one not read counts as open: the answer may be
    too old, never too young. Raises `NotNow`, `psycopg.Error`, `redis.RedisError`.
    """
    topic = registry.kafka_dlq_topic(domain)
    key = handled_key(topic, int(time.time() // MARKS_SECONDS))
    marks = {int(number): int(offset) for number, offset in client().hgetall(key).items()}
    oldest: list[int] = []
    for number, (low, end) in reader.ranges(topic).items():
        start = marks.get(number, low)
        mark, at_ms = _first_open(reader, topic, number, (start if low <= start <= end else low, end))
        if mark != marks.get(number):
            client().hset(key, str(number), mark)
            client().expire(key, 2 * MARKS_SECONDS)
        if at_ms is not None:
            oldest.append(at_ms)
    return min(oldest) / 1000 if oldest else None


def _first_open(reader: TopicReader, topic: str, number: int, reach: Range) -> tuple[int, int | None]:
    """The offset below which all letters are handled, and the time (ms) of the record there, if any."""
    read = size = 0
    for some in _growing(reader.records(topic, {number: reach})):
        letters = {record.offset() or 0: letter for record in some if (letter := letter_of(record))}
        with database.access() as connection:
            known = replayed.find(connection, {letter.id for letter in letters.values()})
        for record in some:
            offset = record.offset() or 0
            letter = letters.get(offset)
            handled = letter is None or ((one := known.get(letter.id)) is not None and one.place is not None)
            if not handled or read >= MOST_LETTERS or size >= MOST_BYTES:
                return offset, record.timestamp()[1]
            read += 1
            size += len(record.value() or b"")
    return reach[1], None


def _growing(records: Iterator[KafkaMessage]) -> Iterator[list[KafkaMessage]]:
    """The first record alone, which is mostly the answer, then lists of several."""
    yield from chunks(islice(records, 1), 1, MOST_BYTES)
    yield from chunks(records, AT_ONCE, MOST_BYTES)


def _found() -> dict[str, float | None]:
    found: Any = client().get(DEAD_LETTERS_OLDEST)
    return dict(json.loads(found)) if found else {}
