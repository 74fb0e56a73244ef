"""What can be known of silence: since when the gateways listen, and up to when everything heard was judged.

A device is silent only as far as we know. What it sent can wait in the broker while a gateway is away, and in
Kafka while the workers are behind: an outage of ours must not look like one of theirs.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import structlog
from celery import signals
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tasks.domain.domain import AnyDomain
from tasks.servers import gateways, kafka
from tasks.servers.gateways import ON_THE_WAY_MS, Gateway
from tasks.servers.redis_client import HORIZON, client, text
from tasks.settings import settings

log = structlog.get_logger()

# Gateways say once a second how they are; one that has said nothing for so long does not listen.
GATEWAY_FRESH_MS = 5000
# One that has been gone for so long was taken away.
GATEWAY_GONE_MS = 600_000
# Clocks that differ by less are as right as the way to Redis is short.
NEGLIGIBLE_MS = 500
KAFKA_SECONDS = 3.0
# In the place of a time: where the records of a partition end, and where they begin.
END, BEGINNING = -1, -2


class Heard(NamedTuple):
    """Whatever was sent between these two times (ms) has been judged, if a gateway got it."""

    since_ms: int
    until_ms: int


def heard(now_ms: int, domain: AnyDomain) -> Heard | None:
    """Of which time silence of a domain's sources is silence; none when that cannot be said at the moment.

    `now_ms` is by Redis' clock. Where a gateway's is behind it, records are stamped with a time of before:
    then silence is known up to that much earlier.

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


def listening_since(present: list[Gateway], now_ms: int) -> int | None:
    """Since when all gateways have listened without a break; none if one does not listen now."""
    if any(abs(now_ms - one.said_ms) > GATEWAY_FRESH_MS or not one.since_ms for one in present):
        return None
    return max((gateway.since_ms for gateway in present), default=None)


def _judged_until(domain: AnyDomain, now_ms: int) -> int | None:
    """Up to when everything that Kafka had of the domain has been judged.

    The ends of the partitions are noted with the time; once the bridge has committed past them, everything
    up to that time is done, and the ends are noted anew.
    """
    horizon, topic = domain.qualified(HORIZON), domain.qualified(settings().kafka_topic)
    kept = {text(name): text(value) for name, value in client().hgetall(horizon).items()}
    if "ends" in kept:
        ends = {int(partition): end for partition, end in json.loads(kept["ends"]).items()}
        if not _committed_past(topic, ends):
            return int(kept["until_ms"]) if "until_ms" in kept else None
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
        told = consumer.list_topics(topic, KAFKA_SECONDS).topics.get(topic)
        if told is None or told.error is not None or not told.partitions:
            # Of no partition at all everything would count as judged.
            raise KafkaException((told and told.error) or KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    return list(told.partitions)


def _committed_past(topic: str, ends: dict[int, int]) -> bool:
    wanted = [TopicPartition(topic, partition) for partition in ends]
    with _asked() as consumer:
        committed = _by_partition(consumer.committed(wanted, KAFKA_SECONDS))
    unread = [partition for partition, end in ends.items() if partition not in committed and end > 0]
    if unread:
        # Nothing was ever committed there: all that is left of it is to come, and maybe nothing is left.
        committed |= _offsets(topic, unread, BEGINNING)
    return all(committed.get(partition, 0) >= end for partition, end in ends.items())


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
    """The client for one question; after one that it could not answer the next gets a new client.

    It may have forgotten all brokers for good (https://github.com/confluentinc/librdkafka/issues/5301), and a
    new one costs little where nobody asks more often than the back-off lets.
    """
    try:
        yield _consumer()
    except KafkaException:
        close()
        raise


@lru_cache
def _consumer() -> Consumer:
    """Only asks about the bridge's group, and never joins it.

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
    """Drops the connection to Kafka; the next question opens a new one."""
    if _consumer.cache_info().currsize:
        _consumer().close()
        _consumer.cache_clear()


@signals.worker_process_shutdown.connect
def _close(**_: Any) -> None:
    close()
