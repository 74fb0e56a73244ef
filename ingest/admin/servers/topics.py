"""The Kafka topics of each domain: its messages and its dead letters."""

import time
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its __init__ lacks an __all__
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from ingest.admin.errors import OperatorError, ServerAway
from tasks import registry
from tasks.servers import kafka
from tasks.settings import Settings

TIMEOUT_SECONDS = 15
# A request gives up after this time; then it is as if Kafka did not answer.
REQUEST_SECONDS = 45.0
_NO_ANSWER = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT}
# For a moment a broker that has just started, or is held up, counts as fenced, and a new topic is unknown.
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.5
_DAY_MS = 86_400_000


class TopicRefused(OperatorError):
    """Kafka does not create a topic as it was asked to."""


class Topic(NamedTuple):
    """A topic as it should be, or as it is."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]


class TopicResult(NamedTuple):
    """The result for one topic; `differences` of an existing topic are reported, not corrected."""

    topic: Topic
    created: bool
    differences: list[str]


def wanted(settings: Settings) -> list[Topic]:
    """Both topics of each domain, as the settings want them."""

    # With three copies one may be missing, and what is acknowledged is on two brokers all the same.
    in_sync = 2 if settings.kafka_replication >= 3 else 1

    def topic(name: str, days: int, max_message_bytes: int) -> Topic:
        config = {
            "min.insync.replicas": str(in_sync),
            "cleanup.policy": "delete",
            "retention.ms": str(days * _DAY_MS),
            "max.message.bytes": str(max_message_bytes),
        }
        return Topic(name, settings.kafka_partitions, settings.kafka_replication, config)

    return [
        one
        for domain in registry.load(settings.domains)
        for one in (
            topic(domain.qualified(settings.kafka_topic), 7, settings.kafka_max_message_bytes),
            # a dead letter carries its payload in base64, and waits until somebody looks
            topic(
                domain.qualified(settings.kafka_dlq_topic),
                settings.dead_letter_retention_days,
                2 * settings.kafka_max_message_bytes,
            ),
        )
    ]


def differences(topic: Topic, found: Topic) -> list[str]:
    """How an existing topic differs from the wanted one, each as part of a sentence."""
    differences = []
    if found.partitions != topic.partitions:
        differences.append(f"partitions are {found.partitions}, not {topic.partitions}")
    if found.replication != topic.replication:
        differences.append(f"replication is {found.replication}, not {topic.replication}")
    differences += [
        f"{key} is {found.config.get(key)}, not {value}"
        for key, value in topic.config.items()
        if found.config.get(key) != value
    ]
    return differences


def ensure(settings: Settings) -> list[TopicResult]:
    """Creates the topics that do not exist and compares those that do; alters none.

    Raises `ServerAway`, `TopicRefused`.
    """
    # librdkafka logs its failing connections, too; the error below says it once and better
    admin = AdminClient({**kafka.connection(settings), "log_level": 0})
    try:
        existing = admin.list_topics(timeout=TIMEOUT_SECONDS).topics
        return [
            _compared(admin, topic, existing[topic.name]) if topic.name in existing else _create(admin, topic)
            for topic in wanted(settings)
        ]
    except KafkaException as error:
        raise ServerAway(
            f"Kafka at {settings.kafka_bootstrap_servers} does not answer: {error.args[0].str()}."
            " Check KAFKA_BOOTSTRAP_SERVERS and that the server runs."
        ) from error


def _create(admin: AdminClient, topic: Topic) -> TopicResult:
    new = NewTopic(topic.name, topic.partitions, topic.replication, config=topic.config)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            asked = admin.create_topics(
                [new], operation_timeout=TIMEOUT_SECONDS, request_timeout=REQUEST_SECONDS
            )
            asked[topic.name].result()
        except KafkaException as error:
            code, reason = error.args[0].code(), error.args[0].str()
            if code in _NO_ANSWER:
                raise
            exists = code == KafkaError.TOPIC_ALREADY_EXISTS  # another process created it, maybe just now
            if exists and (known := admin.list_topics(timeout=TIMEOUT_SECONDS).topics.get(topic.name)):
                return _compared(admin, topic, known)
            if not (exists or "fenced" in reason) or time.monotonic() >= deadline:
                raise TopicRefused(f"Kafka refused to create the topic {topic.name}: {reason}.") from error
            time.sleep(PAUSE_SECONDS)
        else:
            return TopicResult(topic, created=True, differences=[])


def _compared(admin: AdminClient, topic: Topic, metadata: TopicMetadata) -> TopicResult:
    found = _found(admin, topic.name, metadata)
    return TopicResult(topic, created=False, differences=differences(topic, found))


def _found(admin: AdminClient, name: str, metadata: TopicMetadata) -> Topic:
    resource = ConfigResource(ResourceType.TOPIC, name)
    config = admin.describe_configs([resource], request_timeout=REQUEST_SECONDS)[resource].result()
    partitions = metadata.partitions
    return Topic(
        name,
        len(partitions),
        len(partitions[0].replicas),
        {key: entry.value for key, entry in config.items()},
    )
