"""When silence counts: since when the gateways have listened, and up to when everything received was judged.

A message can wait in the broker while a gateway is away, and in Kafka while the workers are behind: an outage
of Sluice must not look like silent devices.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from celery import signals
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tasks.domain.domain import AnyDomain
from tasks.servers import gateways, kafka
from tasks.servers.gateways import ON_THE_WAY_MS, GatewayStatus
from tasks.servers.redis_client import HORIZON, client, text
from tasks.settings import settings

# Gateways report once a second; a gateway that has not reported for this long does not listen.
GATEWAY_FRESH_MS = 5000
# A gateway that has not reported for this long was removed.
GATEWAY_GONE_MS = 600_000
# A smaller difference of clocks cannot be distinguished from the way to Redis.
NEGLIGIBLE_MS = 500
KAFKA_SECONDS = 3.0
# In place of a timestamp: the end of a partition's records, and their beginning.
END, BEGINNING = -1, -2


class Heard(NamedTuple):
    """Everything sent between these two times (ms) has been judged, if a gateway received it."""

    since_ms: int
    until_ms: int


def heard(now_ms: int, domain: AnyDomain) -> Heard | None:
    """The time in which silence of a domain's sources counts; None if it cannot be known at the moment.

    `now_ms` is by Redis' clock. If a gateway's clock is behind it, records have earlier timestamps: then
    silence is known up to that much earlier.

    Raises `redis.RedisError` and `KafkaException`.
    """
    said = gateways.read()
    gone = [name for name, gateway in said.items() if abs(now_ms - gateway.said_ms) > GATEWAY_GONE_MS]
    gateways.forget(gone)
    present = [said[name] for name in said.keys() - set(gone)]
    since_ms = listening_since(present, now_ms)
    until_ms = _judged_until(domain, now_ms)
    if since_ms is None or until_ms is None:
        return None
    behind_ms = max(-min(gateway.skew_ms for gateway in present) - NEGLIGIBLE_MS, 0)
    return Heard(since_ms + settings().absence_grace_seconds * 1000, until_ms - behind_ms)


def listening_since(present: list[GatewayStatus], now_ms: int) -> int | None:
    """Since when (ms) all gateways have listened without a break; None if one does not listen now."""
    if any(abs(now_ms - one.said_ms) > GATEWAY_FRESH_MS or not one.since_ms for one in present):
        return None
    return max((gateway.since_ms for gateway in present), default=None)


def _judged_until(domain: AnyDomain, now_ms: int) -> int | None:
    """Up to when everything that Kafka had of the domain has been judged.

    The ends of the partitions are noted with the time; once the bridge has committed past them, everything
    up to that time is done, and the ends are noted again. They are also noted again when offsets begin again:
    after the topic was made again, or Kafka has lost records, the old ones mean nothing.
    """
    horizon, topic = domain.qualified(HORIZON), domain.qualified(settings().kafka_topic)
    kept = {text(name): text(value) for name, value in client().hgetall(horizon).items()}
    if "ends" in kept:
        ends = {int(partition): end for partition, end in json.loads(kept["ends"]).items()}
        known = int(kept["until_ms"]) if "until_ms" in kept else None
        if not ends.keys() <= set(_partitions(topic)):
            # It was made again with fewer of them.
            _note_ends(horizon, topic, now_ms)
            return known
        committed = _committed(topic, ends)
        # Asked after the committed offsets, so that none of them is beyond an end by chance.
        present = _offsets(topic, list(ends), END)
        if any(present.get(one, 0) < max(end, committed.get(one, 0)) for one, end in ends.items()):
            _note_ends(horizon, topic, now_ms)
            return known
        if any(committed.get(one, 0) < end for one, end in ends.items()):
            return known
        until_ms = int(kept["taken_ms"])
        client().hset(horizon, "until_ms", until_ms)
        _note_ends(horizon, topic, now_ms)
        return until_ms
    _note_ends(horizon, topic, now_ms)
    return None


def _note_ends(horizon: str, topic: str, now_ms: int) -> None:
    partitions = _partitions(topic)
    ends = _offsets(topic, partitions, END)
    client().hset(horizon, mapping={"taken_ms": now_ms - ON_THE_WAY_MS, "ends": json.dumps(ends)})


def _partitions(topic: str) -> list[int]:
    with _asked() as consumer:
        metadata = consumer.list_topics(topic, KAFKA_SECONDS).topics.get(topic)
        if metadata is None or metadata.error is not None or not metadata.partitions:
            # Without any partition everything would count as judged.
            raise KafkaException((metadata and metadata.error) or KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    return list(metadata.partitions)


def _committed(topic: str, ends: dict[int, int]) -> dict[int, int]:
    wanted = [TopicPartition(topic, partition) for partition in ends]
    with _asked() as consumer:
        committed = _by_partition(consumer.committed(wanted, KAFKA_SECONDS))
    unread = [partition for partition, end in ends.items() if partition not in committed and end > 0]
    if unread:
        # Nothing was ever committed there: whatever the partition still has is not judged yet.
        committed |= _offsets(topic, unread, BEGINNING)
    return committed


def _offsets(topic: str, partitions: list[int], which: int) -> dict[int, int]:
    wanted = [TopicPartition(topic, partition, which) for partition in partitions]
    with _asked() as consumer:
        return _by_partition(consumer.offsets_for_times(wanted, KAFKA_SECONDS))


def _by_partition(found: list[TopicPartition]) -> dict[int, int]:
    for one in found:
        if one.error is not None:
            raise KafkaException(one.error)
    return {one.partition: one.offset for one in found if one.offset >= 0}


@contextmanager
def _asked() -> Iterator[Consumer]:
    """The client for one query; after a failed query the next one gets a new client.

    A client may lose all brokers for good (https://github.com/confluentinc/librdkafka/issues/5301), and a new
    one costs little, because the back-off limits how often it is made.
    """
    try:
        yield _consumer()
    except KafkaException:
        close()
        raise


@lru_cache
def _consumer() -> Consumer:
    """Queries the bridge's group, and never joins it.

    Opened at first use, thus after the fork: librdkafka's threads do not survive one.
    """
    return Consumer(
        {
            **kafka.connection(settings()),
            "client.id": "sluice-clock",
            "group.id": settings().kafka_group,
            "enable.auto.commit": False,
        },
        logger=logging.getLogger("librdkafka"),
    )


def close() -> None:
    """Drops the connection to Kafka; the next query opens a new one."""
    if _consumer.cache_info().currsize:
        _consumer().close()
        _consumer.cache_clear()


@signals.worker_process_shutdown.connect
def _close(**_: Any) -> None:
    close()
