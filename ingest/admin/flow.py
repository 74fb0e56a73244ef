"""How much Kafka holds of all domains, and how much of it is not committed yet."""

from collections.abc import Callable
from typing import NamedTuple

from ingest.admin.positions import Positions
from tasks import registry
from tasks.settings import Settings


class Flow(NamedTuple):
    """Kafka, all domains together: records, dead letters, and records not yet committed."""

    records: int
    dead_letters: int
    lag: int


def kafka_flow(chosen: Settings) -> Callable[[], Flow]:
    """Reads the positions of every domain's two topics at each call. Raises `KafkaAway`."""
    positions = Positions(chosen.kafka_bootstrap_servers, chosen.kafka_group)

    def read() -> Flow:
        records = dead_letters = lag = 0
        for domain in registry.load(chosen.domains):
            topic = domain.qualified(chosen.kafka_topic)
            ends = positions.ends(topic)
            records += sum(ends.values())
            dead_letters += sum(positions.ends(domain.qualified(chosen.kafka_dlq_topic)).values())
            lag += positions.lag(topic, ends)
        return Flow(records, dead_letters, lag)

    return read
