"""Reads the dead letters from their topic."""

from collections.abc import Iterator

import structlog
from confluent_kafka import Message as KafkaMessage

from tasks import registry
from tasks.dead_letters.letter import Filters, Letter, NoLetter, parse_letter
from tasks.domain.domain import AnyDomain
from tasks.servers.topic_reader import Range, TopicReader

log = structlog.get_logger()


def read_letters(
    reader: TopicReader, domain: AnyDomain, ranges: dict[int, Range], filters: Filters
) -> Iterator[Letter]:
    """The domain's letters in these ranges that the filters select."""
    topic = registry.kafka_dlq_topic(domain)
    if filters.since is not None:
        # A letter's record is never older than its refusal.
        starts = reader.offsets_at(topic, int(filters.since.timestamp() * 1000))
        ranges = {number: (max(start, starts[number]), end) for number, (start, end) in ranges.items()}
    for record in reader.records(topic, ranges):
        letter = letter_of(record)
        if letter is not None and filters.match(letter):
            yield letter


def letter_of(record: KafkaMessage) -> Letter | None:
    """The letter of a record; a record that is not a dead letter of Sluice is logged and skipped."""
    partition, offset = record.partition() or 0, record.offset() or 0
    try:
        return parse_letter(
            record.key() or b"", record.value() or b"", record.timestamp()[1], partition, offset
        )
    except NoLetter as error:
        log.warning("no_dead_letter", partition=partition, offset=offset, error=str(error))
        return None
