"""Produces dead letters into their domain's topic again, each once in a run, oldest refusal first.

Each chunk is reserved in the database, produced, and then confirmed there. If a worker dies in between, the
next one looks into that topic for the records that were produced.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import NamedTuple

import structlog
from confluent_kafka import Message as KafkaMessage
from confluent_kafka import Producer

from tasks import registry
from tasks.batch.kafka_record import (
    ATTEMPTS,
    CONTENT_TYPE,
    ORIGIN,
    OWNER,
    REPLAY,
    REPLAY_OF,
    TIMESTAMP,
    header_text,
)
from tasks.batch.messages import SILENT, WITH_ALERTS
from tasks.dead_letters import replayed
from tasks.dead_letters.letter import MAX_REFUSALS, Filters, Letter, LetterId
from tasks.dead_letters.read import letter_of, read_letters
from tasks.dead_letters.replayed import Place
from tasks.errors import DeadLettersUnconfirmed
from tasks.observe.metrics.worker import REPLAYED
from tasks.replays import refused_alerts
from tasks.replays.runs import CannotRun, Held, domain_of
from tasks.servers import database, kafka
from tasks.servers.topic_reader import Range, TopicReader
from tasks.settings import settings
from tasks.text.times import iso_of_ms

log = structlog.get_logger()

MOST_LETTERS = 100_000
"""A run holds about 200 bytes for each of its letters, and no more than this many."""
CHUNK_LETTERS = 500
CHUNK_BYTES = 4_194_304
CONFIRM_SECONDS = 30.0


class Candidate(NamedTuple):
    """A letter to be replayed: when it was refused, and where to find it."""

    refused_at: datetime
    letter_partition: int
    letter_offset: int
    id: LetterId
    size: int  # bytes of payload


Change = Callable[[Letter], Letter | None]
"""The letter to be replayed in another's place; None leaves it out. The same for the same letter."""


def replay(held: Held, change: Change | None = None) -> None:
    """Replays what the run has not replayed yet. Raises `NotNow`, `psycopg.Error` and `KafkaException`.

    A run with a change belongs to the command that has it: another process only notes what was produced, and
    raises `CannotRun`.
    """
    with TopicReader() as reader:
        if "letters" not in held.positions:
            # Letters that are refused from now on, also because of this replay, do not belong to this run.
            held.positions["letters"] = _as_json(reader.ranges(registry.kafka_dlq_topic(domain_of(held))))
            held.save_alone()
        _reconcile(held, reader)
        if change is None and held.arguments.get("with"):
            raise CannotRun("its command ended before it did; what was sent is noted, run it again")
        rest = int(held.arguments["limit"]) - held.counts.get("replayed", 0)
        candidates, counts = select(reader, held, rest, change)
        held.counts.update(counts)
        held.counts.setdefault("replayed", 0)
        held.counts["selected"] = held.counts["replayed"] + len(candidates)
        held.save_alone()
        if not held.arguments.get("dry_run"):
            _replay_all(held, reader, candidates, change)


def select(
    reader: TopicReader, held: Held, limit: int, change: Change | None = None
) -> tuple[list[Candidate], dict[str, int]]:
    """The oldest open letters that match, at most `limit`, and how many others were left out, by reason."""
    domain = domain_of(held)
    filters = Filters.from_json(held.arguments.get("filters", {}))
    force = bool(held.arguments.get("force"))
    counts: Counter[str] = Counter(no_coordinates=0, too_many_attempts=0, replayed_before=0)
    open_letters = 0
    oldest: dict[LetterId, Candidate] = {}
    for letters in _in_lists(read_letters(reader, domain, _from_json(held.positions["letters"]), filters)):
        held.keep()
        replayable = []
        for letter in letters:
            if not letter.can_be_replayed:
                counts["no_coordinates"] += 1
            elif letter.attempts >= MAX_REFUSALS and not force:
                counts["too_many_attempts"] += 1
            elif letter.id not in oldest:
                replayable.append(letter)
        with database.access() as connection:
            known = replayed.find(connection, {letter.id for letter in replayable})
        for letter in replayable:
            if letter.id in known:
                counts["replayed_before"] += known[letter.id].run_id != held.run_id
            elif change is not None and change(letter) is None:
                counts["still_refused"] += 1
            elif letter.id not in oldest:
                open_letters += 1
                oldest[letter.id] = Candidate(
                    letter.refused_at,
                    letter.letter_partition,
                    letter.letter_offset,
                    letter.id,
                    len(letter.payload),
                )
        if len(oldest) > 2 * limit:
            oldest = {one.id: one for one in heapq.nsmallest(limit, oldest.values())}
    return heapq.nsmallest(limit, oldest.values()), {**counts, "left": max(0, open_letters - limit)}


def _replay_all(held: Held, reader: TopicReader, candidates: list[Candidate], change: Change | None) -> None:
    with _producing() as producer:
        for chunk in _cut(candidates):
            wanted: dict[int, set[int]] = {}
            for one in chunk:
                wanted.setdefault(one.letter_partition, set()).add(one.letter_offset)
            # Sorted by age, the letters of a chunk are close to each other in each partition.
            ranges = {number: (min(offsets), max(offsets) + 1) for number, offsets in wanted.items()}
            letters = [
                letter
                for record in reader.records(registry.kafka_dlq_topic(domain_of(held)), ranges)
                if record.offset() in wanted[record.partition() or 0] and (letter := letter_of(record))
            ]
            if change is not None:
                letters = [changed for letter in letters if (changed := change(letter)) is not None]
            _replay_chunk(held, reader, producer, letters)
            log.info("replay_progress", run=held.run_id, **held.counts)


def _cut(candidates: list[Candidate]) -> Iterator[list[Candidate]]:
    chunk: list[Candidate] = []
    size = 0
    for one in candidates:
        if chunk and (len(chunk) >= CHUNK_LETTERS or size + one.size > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += one.size
    if chunk:
        yield chunk


def _in_lists(letters: Iterator[Letter]) -> Iterator[list[Letter]]:
    while some := list(islice(letters, CHUNK_LETTERS)):
        yield some


def _replay_chunk(held: Held, reader: TopicReader, producer: Producer, letters: list[Letter]) -> None:
    topic = registry.kafka_topic(domain_of(held))
    held.positions["stream"] = _as_json(reader.ranges(topic))
    with database.access() as connection, connection.transaction():
        held.save(connection)
        reserved = replayed.reserve(connection, held.run_id, {letter.id for letter in letters})
    partitions = len(held.positions["stream"])
    alerts = [letter for letter in letters if letter.is_alert and letter.id in reserved]
    written = refused_alerts.write(alerts)
    places: dict[LetterId, Place] = {letter.id: replayed.NOWHERE for letter in written}
    if len(alerts) > len(written):
        held.counts["not_written"] = held.counts.get("not_written", 0) + len(alerts) - len(written)
    reserved -= {letter.id for letter in alerts}
    failures: list[str] = []
    # The messages of a device keep the order in which they first came.
    for letter in sorted(letters, key=lambda letter: (letter.partition or 0, letter.offset or 0)):
        if letter.id in reserved:
            reserved.remove(letter.id)
            _produce(
                producer, topic, letter, bool(held.arguments.get("alerts")), partitions, places, failures
            )
    waiting = producer.flush(CONFIRM_SECONDS)
    if waiting or failures:
        raise DeadLettersUnconfirmed(f"{waiting} unanswered, {len(failures)} failed: {failures[:1]}")
    _confirm(held, places)


def _produce(
    producer: Producer,
    topic: str,
    letter: Letter,
    alerts: bool,
    partitions: int,
    places: dict[LetterId, Place],
    failures: list[str],
) -> None:
    def confirmed(error: object, record: KafkaMessage) -> None:
        if error is not None:
            failures.append(str(error))
        else:
            places[letter.id] = (record.partition() or 0, record.offset() or 0)

    source = letter.source
    headers: list[tuple[str, str | bytes | None]] = [
        ("mqtt_topic", letter.topic.encode(errors="surrogateescape")),
        ("received_at", (iso_of_ms(letter.timestamp_ms) or f"{letter.timestamp_ms} ms").encode()),
        (ATTEMPTS, str(letter.attempts).encode()),
        (REPLAY, (WITH_ALERTS if alerts else SILENT).encode()),
        (REPLAY_OF, f"{letter.id.key}@{letter.id.record_ms}".encode()),
        (TIMESTAMP, str(letter.timestamp_ms).encode()),
    ]
    first = letter.origin or (letter.partition, letter.offset)
    headers.append((ORIGIN, f"{first[0]}/{first[1]}".encode()))
    if letter.content_type:
        headers.append((CONTENT_TYPE, letter.content_type.encode()))
    if letter.owner:
        headers.append((OWNER, letter.owner.encode()))
    if letter.traceparent:
        headers.append(("traceparent", letter.traceparent.encode()))
    # Back into its own partition, however that was chosen, or otherwise by the key.
    home = letter.partition if letter.partition is not None and letter.partition < partitions else -1
    producer.produce(
        topic,
        letter.payload,
        (f"{source.user_id}/{source.device_id}" if source else letter.topic).encode(errors="surrogateescape"),
        home,
        headers=headers,
        on_delivery=confirmed,
    )
    producer.poll(0)


def _reconcile(held: Held, reader: TopicReader) -> None:
    """Finds out what was produced of the chunk at which the last worker died."""
    with database.access() as connection:
        open_ids = replayed.unconfirmed(connection, held.run_id)
    if not open_ids:
        return
    topic = registry.kafka_topic(domain_of(held))
    before, now = _from_json(held.positions["stream"]), reader.ranges(topic)
    ranges = {number: (before[number][1] if number in before else 0, end) for number, (_, end) in now.items()}
    by_name = {f"{letter.key}@{letter.record_ms}": letter for letter in open_ids}
    places: dict[LetterId, Place] = {}
    for record in reader.records(topic, ranges):
        held.keep()
        letter = by_name.get(header_text(dict(record.headers() or ()).get(REPLAY_OF)))
        if letter is not None:
            places[letter] = (record.partition() or 0, record.offset() or 0)
    _confirm(held, places)
    log.info(
        "replay_settled", run=held.run_id, produced=len(places), not_produced=len(open_ids) - len(places)
    )


def _confirm(held: Held, places: dict[LetterId, Place]) -> None:
    counted = held.counts.get("replayed", 0) + len(places)
    with database.access() as connection, connection.transaction():
        replayed.confirm(connection, places)
        replayed.free(connection, held.run_id)
        held.counts["replayed"] = counted
        held.save(connection)
    REPLAYED.add(len(places), held.kind)


@contextmanager
def _producing() -> Iterator[Producer]:
    chosen = settings()
    producer = Producer(
        {
            **kafka.connection(chosen),
            "client.id": "sluice-replay",
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": "lz4",
            "message.max.bytes": 2 * chosen.kafka_max_message_bytes,
            "delivery.timeout.ms": int(CONFIRM_SECONDS * 1000),
        }
    )
    try:
        yield producer
    finally:
        # After a failure nothing may be sent any more: the next worker looks only once for sent records.
        producer.purge()
        producer.flush(1)


def _as_json(ranges: dict[int, Range]) -> dict[str, list[int]]:
    return {str(number): list(offsets) for number, offsets in ranges.items()}


def _from_json(ranges: dict[str, list[int]]) -> dict[int, Range]:
    return {int(number): (start, end) for number, (start, end) in ranges.items()}
