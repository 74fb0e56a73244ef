"""Facts about silence, asked of a real Kafka: the offsets that the bridge has committed, and who listens."""

import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it lacks an __all__

from compose.local.stack import Stack
from ingest.health.heartbeat import Heartbeat
from tasks.alerts import silence
from tasks.alerts.silence import Heard
from tasks.servers import clocks
from tasks.servers.gateways import ON_THE_WAY_MS
from tasks.servers.redis_client import GATEWAYS, HORIZON, client
from tasks.settings import settings
from tasks.telemetry import DOMAIN
from tests.integration.fleet import wait_until


class Topic:
    """A Kafka topic of the test's own, with the offsets of a bridge of the test's own."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name = f"clock-{uuid4().hex[:8]}"
        servers = {"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"]}
        self._admin = AdminClient({**servers})
        self._admin.create_topics([NewTopic(self.name, 2, 1)])[self.name].result(20)
        self._producer = Producer(servers)
        self._bridge = Consumer(servers | {"group.id": self.name, "enable.auto.commit": False})
        update = {"kafka_topic": self.name, "kafka_group": self.name, "absence_grace_seconds": 30}
        chosen = settings().model_copy(update=update)
        monkeypatch.setattr(silence, "settings", lambda: chosen)
        silence.close()
        wait_until(self._answers, 30, "the coordinator of the group")

    def _answers(self) -> bool:
        # A new server has no coordinator for a while; the clock would wait likewise.
        try:
            return silence.heard(0, DOMAIN) is None and silence.heard(0, DOMAIN) is None
        except KafkaException:
            return False
        finally:
            client().delete(HORIZON)

    def produce(self, partition: int) -> None:
        """One more record."""
        self._producer.produce(self.name, b"{}", partition=partition)
        assert self._producer.flush(20) == 0

    def commit(self, partition: int, offset: int) -> None:
        """The bridge is done up to here."""
        self._bridge.commit(offsets=[TopicPartition(self.name, partition, offset)], asynchronous=False)

    def make_again(self) -> None:
        """The topic is deleted and created: its offsets begin at 0."""
        self._admin.delete_topics([self.name])[self.name].result(20)
        wait_until(lambda: self.name not in self._admin.list_topics(timeout=10).topics, 30, "its end")
        self._admin.create_topics([NewTopic(self.name, 2, 1)])[self.name].result(20)
        wait_until(lambda: self.name in self._admin.list_topics(timeout=10).topics, 30, "the topic")

    def close(self) -> None:
        """Ends the consumer."""
        self._bridge.close()


@pytest.fixture
def topic(stack: Stack, in_process: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Topic]:  # noqa: ARG001 - first
    """A topic of two partitions, of which nothing is known, and no gateways."""
    client().delete(HORIZON, GATEWAYS)
    own = Topic(stack, monkeypatch)
    yield own
    own.close()
    silence.close()
    client().delete(HORIZON, GATEWAYS)


def gateway(now_ms: int, since_ms: int) -> None:
    """A gateway's report on itself."""
    client().hset(GATEWAYS, "sluice-gateway", f"{since_ms} {now_ms}")


def test_silence_is_judged_up_to_what_the_bridge_has_committed(topic: Topic) -> None:
    """The time stands still while records wait, and goes on when they are done."""
    now = 1_800_000_000_000
    gateway(now, since_ms=now - 500_000)
    since = now - 500_000 + 30_000
    assert silence.heard(now, DOMAIN) is None
    assert silence.heard(now + 1000, DOMAIN) == Heard(since, now - ON_THE_WAY_MS)
    topic.produce(1)
    topic.produce(1)
    assert silence.heard(now + 2000, DOMAIN) == Heard(since, now + 1000 - ON_THE_WAY_MS)
    waits = Heard(since, now + 1000 - ON_THE_WAY_MS)
    assert silence.heard(now + 3000, DOMAIN) == waits
    topic.commit(1, 1)
    assert silence.heard(now + 4000, DOMAIN) == waits
    topic.commit(1, 2)
    assert silence.heard(now + 5000, DOMAIN) == Heard(since, now + 2000 - ON_THE_WAY_MS)


def test_silence_goes_on_when_offsets_begin_again(topic: Topic) -> None:
    """Notes of the old offsets are dropped: the new ones may never get that far."""
    now = 1_800_000_000_000
    gateway(now, since_ms=now - 500_000)
    topic.produce(1)
    topic.produce(1)
    topic.commit(1, 1)
    assert silence.heard(now, DOMAIN) is None
    topic.make_again()

    def goes_on() -> bool:
        try:
            return silence.heard(now + 1000, DOMAIN) is not None
        except KafkaException:  # as after any other change of a topic, for a moment
            return False

    wait_until(goes_on, 30, "the time to go on")


def test_silence_stands_still_while_the_bridge_is_beyond_the_end(topic: Topic) -> None:
    """Kafka has lost what the bridge has read: until that begins again, nothing new is judged."""
    now = 1_800_000_000_000
    gateway(now, since_ms=now - 500_000)
    topic.produce(1)
    topic.commit(1, 5)
    assert [silence.heard(now + later, DOMAIN) for later in (0, 1000, 2000)] == [None] * 3
    topic.commit(1, 0)
    assert silence.heard(now + 3000, DOMAIN) is None
    topic.commit(1, 1)
    assert silence.heard(now + 4000, DOMAIN) is not None


@pytest.mark.usefixtures("topic")
def test_silence_means_nothing_without_a_gateway() -> None:
    """One that has gone deaf counts from its return; one that was taken away is forgotten."""
    now = 1_800_000_000_000
    silence.heard(now, DOMAIN)
    assert silence.heard(now, DOMAIN) is None
    gateway(now, since_ms=0)
    assert silence.heard(now, DOMAIN) is None
    gateway(now, since_ms=now - 10)
    assert silence.heard(now, DOMAIN) == Heard(now - 10 + 30_000, now - ON_THE_WAY_MS)
    assert silence.heard(now + 6000, DOMAIN) is None
    client().hset(GATEWAYS, "other", f"{now} {now + 700_000}")
    assert silence.heard(now + 700_000, DOMAIN) is not None
    assert client().hkeys(GATEWAYS) == [b"other"]


@pytest.mark.usefixtures("topic")
def test_a_gateway_with_a_wrong_clock_listens_like_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """It speaks by Redis' clock; what it stamps counts up to the time to which its own clock has come."""
    real = time.time_ns

    def beat(skew_s: float) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("time.time_ns", lambda: real() + round(skew_s * 1e9))
            Heartbeat("sluice-gateway", lambda: True)._beat(listens=True)

    # A loaded machine may take its time between the sign of life and the question.
    monkeypatch.setattr(silence, "GATEWAY_FRESH_MS", 60_000)
    until = {}
    for skew_s in (0, -6, 90, -3600):
        client().delete(HORIZON)
        beat(skew_s)
        now = clocks.now_ms()
        assert silence.heard(now, DOMAIN) is None
        found = silence.heard(now + 10, DOMAIN)
        assert found is not None
        until[skew_s] = now - found.until_ms
    assert until[0] == until[90] == ON_THE_WAY_MS
    assert until[-6] == pytest.approx(ON_THE_WAY_MS + 5500, abs=1000)
    assert until[-3600] == pytest.approx(ON_THE_WAY_MS + 3_599_500, abs=1000)
    beat(90)
    assert silence.heard(clocks.now_ms() + silence.GATEWAY_FRESH_MS + 1000, DOMAIN) is None
