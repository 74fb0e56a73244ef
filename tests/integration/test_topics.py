"""The command `sluice topics` on a real Kafka."""

from uuid import uuid4

import pytest

from compose.local.stack import Stack
from ingest.admin.errors import ServerAway
from ingest.admin.servers import topics
from tasks.settings import Settings


def settings(stack: Stack, **more: object) -> Settings:
    """Settings for the stack's Kafka, with topics of this test's own."""
    run = uuid4().hex[:8]
    values: dict[str, object] = {
        "kafka_bootstrap_servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"],
        "kafka_topic": f"{run}-stream",
        "kafka_dlq_topic": f"{run}-dlq",
        "kafka_partitions": 2,
    }
    return Settings.model_validate(values | more)


def test_topics_are_created_once_as_the_settings_want_them(stack: Stack) -> None:
    """The first run creates both topics; the second finds them exactly as wanted."""
    chosen = settings(stack)
    assert [outcome.created for outcome in topics.ensure(chosen)] == [True, True]
    again = topics.ensure(chosen)
    assert [(outcome.created, outcome.differences) for outcome in again] == [(False, []), (False, [])]


def test_a_different_topic_is_told_and_left_alone(stack: Stack) -> None:
    """Other settings alter no topic that exists; every run shows the difference."""
    chosen = settings(stack)
    topics.ensure(chosen)
    other = chosen.model_copy(update={"kafka_partitions": 3, "kafka_max_message_bytes": 4096})
    for _ in range(2):
        stream, letters = topics.ensure(other)
        assert stream.differences == ["partitions are 2, not 3", "max.message.bytes is 2097152, not 4096"]
        assert letters.differences == ["partitions are 2, not 3", "max.message.bytes is 4194304, not 8192"]


def test_an_absent_kafka_is_named(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer the error names the address and the variable to look at."""
    monkeypatch.setattr(topics, "TIMEOUT_SECONDS", 2)
    chosen = settings(stack, kafka_bootstrap_servers="127.0.0.1:1")
    with pytest.raises(ServerAway, match=r"127\.0\.0\.1:1 .*KAFKA_BOOTSTRAP_SERVERS"):
        topics.ensure(chosen)
