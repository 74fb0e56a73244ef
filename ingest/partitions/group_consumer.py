"""The bridge's consumer of Kafka: how it reads, and how it joins and leaves its group."""

import logging
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, TopicPartition

from ingest.health.kafka_statistics import EVERY_MS
from ingest.partitions import topic_ids
from ingest.partitions.topic_ids import TopicIds
from tasks.servers import kafka
from tasks.settings import Settings

POLL_SECONDS = 45
# Without data a fetch must wait, or the client asks without pause.
LEAST_WAIT_MS = 10
# That answer a fetch at once; under load it never waits.
ENOUGH_BYTES = 256 * 1024


def connect(
    chosen: Settings,
    ids: TopicIds,
    on_statistics: Callable[[str], None],
    on_commit: Callable[[KafkaError | None, list[TopicPartition]], None],
) -> Consumer:
    """A consumer of the group, with no topics yet. It calls back in the thread that polls it."""
    logger = logging.getLogger("librdkafka.bridge")
    logger.setLevel(logging.DEBUG)
    logger.addFilter(ids)
    return Consumer(
        {
            **kafka.connection(chosen),
            "group.id": chosen.kafka_group,
            "client.id": "sluice-bridge",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "on_commit": on_commit,
            "stats_cb": on_statistics,
            "statistics.interval.ms": EVERY_MS,
            "debug": topic_ids.DEBUG,
            # An offset that is not there any more must not be passed over silently.
            "auto.offset.reset": "error",
            # Every rebalance takes all partitions away and assigns them again, from their committed offsets,
            # so a lane never holds messages of a partition that another bridge owns.
            "partition.assignment.strategy": "range",
            # The least that brokers allow by default: the partitions of a killed bridge move after this time.
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1500,
            # A rebalance waits this long for a member that never comes, as after a restart of the broker; the
            # client's default is five minutes. A turn of the loop is shorter while Redis answers, and without
            # Redis a bridge can send nothing, in the group or not.
            "max.poll.interval.ms": round(1000 * max(POLL_SECONDS, 20 + _longest_wait(chosen))),
            # Messages wait for others in Kafka: each answer to a fetch costs as much as many messages.
            "fetch.wait.max.ms": max(chosen.batch_linger_ms, LEAST_WAIT_MS),
            "fetch.min.bytes": ENOUGH_BYTES,
            "queued.min.messages": chosen.batch_max_messages,
            "queued.max.messages.kbytes": 16_384,
        },
        logger=logger,
    )


def _longest_wait(chosen: Settings) -> float:
    """For how long a stop or a rebalance may wait for batches (s), in which nobody polls."""
    return max(chosen.stop_grace_seconds, chosen.rebalance_wait_seconds)
