"""How much Kafka holds of each domain, how much of it is not committed yet, and how long it has waited."""

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import NamedTuple

from ingest.admin.servers.positions import Positions
from tasks import registry
from tasks.errors import NotNow
from tasks.servers.topic_reader import TopicReader
from tasks.settings import Settings

# The reader fetches no more than this ahead: one record of each partition is wanted.
AHEAD_KBYTES = 64


class Flow(NamedTuple):
    """Kafka, one domain or several together: records, dead letters, and records not yet committed."""

    records: int
    dead_letters: int
    lag: int


def kafka_flow(chosen: Settings) -> Callable[[], Flow]:
    """Reads the positions of every domain's two topics at each call, all together. Raises `KafkaAway`."""
    read = domain_flows(chosen)
    return lambda: total(read().values())


def domain_flows(chosen: Settings) -> Callable[[], dict[str, Flow]]:
    """The same by domain, in the order of DOMAINS. Raises `KafkaAway`."""
    positions = Positions(chosen.kafka_bootstrap_servers, chosen.kafka_group)

    def read() -> dict[str, Flow]:
        found = {}
        for domain in registry.load(chosen.domains):
            topic = domain.qualified(chosen.kafka_topic)
            ends = positions.ends(topic)
            letters = positions.ends(domain.qualified(chosen.kafka_dlq_topic))
            found[domain.name] = Flow(sum(ends.values()), sum(letters.values()), positions.lag(topic, ends))
        return found

    return read


def total(flows: Iterable[Flow]) -> Flow:
    """All of them together."""
    sums = [sum(column) for column in zip(*flows, strict=True)]
    return Flow(*sums) if sums else Flow(0, 0, 0)


def oldest_waiting(chosen: Settings, names: Collection[str]) -> dict[str, float]:
    """For these domains the age (s) of the oldest record that is not committed, where there is one.

    Domains for which Kafka does not answer now are left out.
    """
    found: dict[str, float] = {}
    domains = [one for one in registry.load(chosen.domains) if one.name in names]
    if not domains:
        return found
    with suppress(NotNow), TopicReader(AHEAD_KBYTES) as reader:
        for domain in domains:
            seconds = _oldest(reader, domain.qualified(chosen.kafka_topic))
            if seconds is not None:
                found[domain.name] = seconds
    return found


def _oldest(reader: TopicReader, topic: str) -> float | None:
    committed, ranges = reader.committed(topic), reader.ranges(topic)
    # Retention may have dropped what was not committed.
    first = {number: max(low, committed.get(number, 0)) for number, (low, _) in ranges.items()}
    wanted = {number: (first[number], min(first[number] + 1, end)) for number, (_, end) in ranges.items()}
    times = [record.timestamp()[1] for record in reader.records(topic, wanted)]
    # A producer may have written any time.
    return max(0.0, round(time.time() - min(times) / 1000, 1)) if times else None
