"""One dead letter whole: found among those at hand, and its record read from Kafka."""

import json
from typing import Any

from ingest.admin.letters import dlq_list
from ingest.admin.letters.dlq_groups import Timed
from ingest.admin.letters.dlq_list import NoDeadLetter
from ingest.admin.letters.dlq_outcome import Standing, envelope
from ingest.admin.letters.dlq_recent import Find, Recent
from tasks import registry
from tasks.dead_letters.letter import Filters
from tasks.dead_letters.read import letter_of
from tasks.domain.domain import AnyDomain


def whole(
    recent: Recent, domain: AnyDomain, wanted: str, filters: Filters, find: Find, seconds: float
) -> dict[str, Any]:
    """The letter that `sluice dlq show` would find, if the filters select it.

    A letter that is not in memory takes a read of the topic, of at most `seconds`. Raises `NoDeadLetter`,
    `TooManyLetters` and `ServerAway`, also when it is unknown what became of it.
    """
    value, standing = _at_hand(recent, domain, wanted, filters, find, seconds) or dlq_list.find(
        domain, wanted, filters, lambda: Timed(seconds)
    )
    return _told(value, standing)


def _at_hand(
    recent: Recent, domain: AnyDomain, wanted: str, filters: Filters, find: Find, seconds: float
) -> tuple[bytes, Standing] | None:
    key = dlq_list.key_of(domain, wanted)
    look = recent.with_key(domain, filters, key, find)
    if look is None:
        return None
    if look.database_away:
        raise dlq_list.outcome_unknown(look.database_away)
    if not look.letters:
        raise NoDeadLetter(key)
    newest, state = max(look.letters, key=lambda one: one[0].letter.refused_at)
    partition, offset = newest.letter.letter_partition, newest.letter.letter_offset
    with dlq_list.reading(lambda: Timed(seconds)) as reader:
        place = {partition: (offset, offset + 1)}
        for record in reader.records(registry.kafka_dlq_topic(domain), place):
            letter = letter_of(record)
            if letter is not None and letter.id == newest.letter.id:
                return record.value() or b"", Standing(letter, state)
    # Kafka's retention has taken it since the look.
    raise NoDeadLetter(key)


def _told(value: bytes, standing: Standing) -> dict[str, Any]:
    letter, sent = standing.letter, json.loads(value)
    user, device = letter.source or ("", "")
    size = sent.get("payload_bytes")
    return {
        **envelope(standing),
        "user_id": user,
        "device_id": device,
        "content_type": letter.content_type or None,
        "kafka_topic": None if letter.partition is None else sent.get("kafka_topic"),
        "kafka_timestamp_ms": None if letter.partition is None else letter.timestamp_ms,
        "first_place": letter.origin,
        "elements": letter.elements,
        "stored": sent.get("stored"),
        "payload_base64": sent["payload_base64"] or "",
        "payload_bytes": size if letter.cut and isinstance(size, int) else len(letter.payload),
        "payload_cut": letter.cut,
    }
