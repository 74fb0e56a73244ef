"""The Kafka topics as the settings want them, and what is said about existing ones."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from ingest.admin.servers import topics
from tasks.settings import Settings


class Admin:
    """Answers each request to create a topic with the next reason for which it cannot; without one it can."""

    def __init__(self, *reasons: str, code: int = KafkaError.INVALID_REPLICATION_FACTOR) -> None:
        self._reasons = list(reasons)
        self._code = code

    def create_topics(self, new: list[Any], **_: Any) -> dict[str, Future[None]]:
        """The result of the client's method."""
        answer: Future[None] = Future()
        if self._reasons:
            answer.set_exception(KafkaException(KafkaError(self._code, self._reasons.pop(0))))
        else:
            answer.set_result(None)
        return {new[0].topic: answer}


def test_a_broker_that_is_fenced_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other refusal is reported at once, and so is one that lasts."""
    monkeypatch.setattr(topics, "PAUSE_SECONDS", 0.0)
    fenced, few = "All brokers are currently fenced.", "only 1 broker is registered"
    (wanted, _) = topics.wanted(Settings())
    assert topics._create(cast("AdminClient", Admin(fenced, fenced)), wanted).created
    with pytest.raises(topics.TopicRefused, match=few):
        topics._create(cast("AdminClient", Admin(few)), wanted)
    monkeypatch.setattr(topics, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(topics.TopicRefused, match="fenced"):
        topics._create(cast("AdminClient", Admin(fenced)), wanted)


def test_a_topic_that_another_process_creates_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brokers may take a moment until they know it; until then nobody can say that it is as wanted."""
    monkeypatch.setattr(topics, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(topics, "_found", lambda _admin, _name, metadata: metadata)
    (wanted, _) = topics.wanted(Settings())
    admin: Any = Admin("exists", "exists", code=KafkaError.TOPIC_ALREADY_EXISTS)
    lists = [{}, {wanted.name: wanted._replace(partitions=wanted.partitions + 1)}]
    admin.list_topics = lambda **_: SimpleNamespace(topics=lists.pop(0))
    result = topics._create(admin, wanted)
    assert (result.created, lists) == (False, [])
    assert result.differences == [f"partitions are {wanted.partitions + 1}, not {wanted.partitions}"]


def test_a_server_that_gives_no_answer_has_refused_nothing() -> None:
    """The caller reports that Kafka is away."""
    (wanted, _) = topics.wanted(Settings())
    with pytest.raises(KafkaException):
        topics._create(cast("AdminClient", Admin("no answer", code=KafkaError._TIMED_OUT)), wanted)


def test_dead_letters_are_larger_and_kept_longer() -> None:
    """A dead letter fits although its payload is in base64, and waits for a month."""
    stream, letters = topics.wanted(Settings(kafka_max_message_bytes=1_000_000, kafka_partitions=6))
    assert (stream.name, letters.name) == ("iot-stream", "iot-stream-dlq")
    assert (stream.partitions, letters.partitions) == (6, 6)
    assert (stream.config["max.message.bytes"], letters.config["max.message.bytes"]) == ("1000000", "2000000")
    assert int(stream.config["retention.ms"]) == 7 * 24 * 3600 * 1000
    assert int(letters.config["retention.ms"]) == 30 * 24 * 3600 * 1000
    assert letters.config["cleanup.policy"] == "delete"


def test_dead_letters_are_kept_as_long_as_the_setting_says() -> None:
    """Only they: telemetry has been read within seconds."""
    stream, letters = topics.wanted(Settings(dead_letter_retention_days=90))
    assert int(letters.config["retention.ms"]) == 90 * 24 * 3600 * 1000
    assert int(stream.config["retention.ms"]) == 7 * 24 * 3600 * 1000


def test_an_acknowledged_record_is_on_two_brokers_where_there_are_three() -> None:
    """And one of the three may be away; with fewer, two in sync would mean that none may."""
    for replication, in_sync in ((1, "1"), (2, "1"), (3, "2"), (5, "2")):
        for topic in topics.wanted(Settings(kafka_replication=replication)):
            assert topic.config["min.insync.replicas"] == in_sync


def test_a_topic_as_wanted_has_no_differences() -> None:
    """Settings of Kafka's that we do not ask for are none of our business."""
    wanted = topics.wanted(Settings())[0]
    assert topics.differences(wanted, wanted._replace(config=wanted.config | {"segment.ms": "1"})) == []


def test_every_difference_is_told() -> None:
    """Partitions, replication and each configuration value are compared."""
    wanted = topics.wanted(Settings())[0]
    found = topics.Topic(wanted.name, 1, 3, wanted.config | {"cleanup.policy": "compact"})
    told = topics.differences(wanted, found)
    assert told == [
        f"partitions are 1, not {wanted.partitions}",
        "replication is 3, not 1",
        "cleanup.policy is compact, not delete",
    ]
