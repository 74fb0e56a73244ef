"""Runs ranges of a domain's topic again: this worker itself validates and stores them, chunk by chunk.

Nothing is produced, so Kafka does not grow. It never goes beyond what the bridge has committed: later records
are on their way, or will be.
"""

from typing import Any

import structlog

from tasks import registry
from tasks.alerts import evaluate
from tasks.batch import epochs
from tasks.batch.kafka_record import message_of
from tasks.batch.messages import Message
from tasks.dead_letters import envelope, replayed, sender
from tasks.dead_letters.index import Known, letters_of
from tasks.dead_letters.letter import LetterId
from tasks.domain.domain import AnyDomain
from tasks.observe.metrics.worker import REPLAYED
from tasks.outbox import deliver
from tasks.replays.runs import CannotRun, Held, domain_of
from tasks.rows import letters, validate, write
from tasks.servers import database
from tasks.servers.topic_reader import Range, TopicReader, chunks

log = structlog.get_logger()

CHUNK_MESSAGES = 2000
CHUNK_BYTES = 8_388_608


def replay(held: Held) -> None:
    """Runs the rest of the ranges. Raises `CannotRun`, `NotNow`, `psycopg.Error`, `redis.RedisError`."""
    domain = domain_of(held)
    topic = registry.kafka_topic(domain)
    with TopicReader() as reader:
        if "ranges" not in held.positions:
            ranges = _wanted(reader, topic, held.arguments)
            held.positions["ranges"] = {str(number): list(reach) for number, reach in ranges.items()}
            held.counts["messages"] = sum(end - start for start, end in ranges.values())
            held.save_alone()
        if held.arguments.get("dry_run"):
            return
        ranges = {int(number): (start, end) for number, (start, end) in held.positions["ranges"].items()}
        known = letters_of(reader, domain, ranges, held.keep)
        for number, reach in sorted(ranges.items()):
            for chunk in chunks(reader.records(topic, {number: reach}), CHUNK_MESSAGES, CHUNK_BYTES):
                messages = [message_of(record) for record in chunk]
                _run(held, domain, messages, known[number])
                log.info("replay_progress", run=held.run_id, partition=number, **held.counts)
            held.positions["ranges"][str(number)] = [reach[1], reach[1]]
            held.save_alone()


def _wanted(reader: TopicReader, topic: str, arguments: dict[str, Any]) -> dict[int, Range]:
    """The requested ranges, cut to what Kafka still has and the bridge has committed."""
    there, committed = reader.ranges(topic), reader.committed(topic)
    asked: dict[int, Range]
    if "partition" in arguments:
        asked = {int(arguments["partition"]): (int(arguments["start"]), int(arguments["end"]))}
    else:
        starts, ends = (reader.offsets_at(topic, int(arguments[name])) for name in ("start_ms", "end_ms"))
        asked = {number: (starts[number], ends[number]) for number in there}
    if unknown := asked.keys() - there.keys():
        raise CannotRun(f"{topic} has no partition {min(unknown)}; it has 0 to {max(there)}")
    cut = {
        number: (max(start, there[number][0]), min(end, there[number][1], committed[number]))
        for number, (start, end) in asked.items()
    }
    return {number: (start, end) for number, (start, end) in cut.items() if start < end}


def _run(held: Held, domain: AnyDomain, messages: list[Message], known: Known) -> None:
    """Runs one chunk of one partition: writes rows, missing dead letters, and the run's new position."""
    # A message that kills workers takes the main way, where it is isolated, or none.
    sound = [message for message in messages if message not in known.condemned]
    readings, dead, partial, *_ = validate.validate(domain, sound)
    if held.arguments.get("alerts"):
        judged = evaluate.judge(domain, readings, epochs.latest(registry.kafka_topic(domain)))
        if judged.changes:
            # No `store` comes after this, which would write them.
            deliver.wake("database")
    with database.access() as connection:
        inserted, refused = write.write(
            connection, domain, [validate.row_of(received) for received in readings]
        )
    by_position = {message[:2]: message for message in messages}
    dead += letters.letters(domain, by_position, [letter.message[:2] for letter, _ in partial], refused)
    new = [letter for letter in dead if letter.message not in known.letters]
    if new:
        sender.send(domain, new, {messages[0].partition: messages[0].offset})
    dead_offsets = {letter.message.offset for letter in dead}
    for letter in new:
        known.letters.add(letter.message.offset, letter.message.timestamp_ms)
    saved = [m for m in sound if m in known.letters and m.offset not in dead_offsets]
    last, topic = messages[-1], registry.kafka_topic(domain)
    for name, amount in {
        "done": len(messages),
        "inserted": inserted,
        "there_already": len(readings) - inserted - len(refused),
        "dead_lettered": len(new),
        "dead_before": len(dead) - len(new) + len(messages) - len(sound),
        "no_longer_dead": len(saved),
    }.items():
        held.counts[name] = held.counts.get(name, 0) + amount
    held.positions["ranges"][str(last.partition)][0] = last.offset + 1
    with database.access() as connection, connection.transaction():
        # A letter whose message became a row in its own place is no longer open.
        topic = registry.kafka_topic(domain)
        places = {
            LetterId(envelope.key(topic, m.partition, m.offset).decode(), m.timestamp_ms): (
                m.partition,
                m.offset,
            )
            for m in saved
        }
        replayed.reserve(connection, held.run_id, places)
        replayed.confirm(connection, places)
        held.save(connection)
    REPLAYED.add(len(messages), held.kind)
