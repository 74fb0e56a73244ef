"""The time since which silence counts, from the gateways' reports."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tasks.alerts import silence
from tasks.alerts.silence import GATEWAY_FRESH_MS, listening_since
from tasks.servers.gateways import GatewayStatus

NOW = 1_800_000_000_000
FRESH = NOW - 1000


@pytest.mark.parametrize(
    ("gateways", "since"),
    [
        ([], None),
        ([GatewayStatus(NOW - 50_000, FRESH)], NOW - 50_000),
        ([GatewayStatus(NOW - 50_000, FRESH), GatewayStatus(NOW - 9000, FRESH)], NOW - 9000),
        ([GatewayStatus(0, FRESH)], None),
        ([GatewayStatus(NOW - 50_000, NOW - GATEWAY_FRESH_MS - 1)], None),
        ([GatewayStatus(NOW - 50_000, FRESH), GatewayStatus(NOW - 50_000, NOW - 60_000)], None),
        ([GatewayStatus(NOW - 50_000, NOW + 3000)], NOW - 50_000),
        ([GatewayStatus(NOW - 50_000, NOW + 90_000)], None),
    ],
)
def test_all_gateways_must_listen_without_a_break(gateways: list[GatewayStatus], since: int | None) -> None:
    """The one that came last counts; one that is deaf, or silent itself, makes all silence meaningless."""
    assert listening_since(gateways, NOW) == since


class Client:
    """A client of Kafka that knows what it was made with, for good."""

    made = 0
    topics: Any = KafkaException(KafkaError(KafkaError._TRANSPORT))

    def __init__(self, *_: Any, **__: Any) -> None:
        type(self).made += 1
        self._topics = self.topics

    def list_topics(self, *_: Any) -> Any:
        """The topics, or that no broker answers."""
        if isinstance(self._topics, Exception):
            raise self._topics
        return SimpleNamespace(topics=self._topics)

    def close(self) -> None:
        """Ends the client."""


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Client]]:
    """The class of the clients that are made from now on."""

    class Fresh(Client):
        pass

    silence.close()
    monkeypatch.setattr(silence, "Consumer", Fresh)
    yield Fresh
    silence.close()


def test_a_client_that_may_have_forgotten_its_brokers_is_not_asked_again(clients: type[Client]) -> None:
    """Only a new client notices a broker that came out of a hang; a client that answers is kept."""
    with pytest.raises(KafkaException):
        silence._partitions("iot-stream")
    clients.topics = {"iot-stream": SimpleNamespace(error=None, partitions={0: None, 1: None})}
    assert [silence._partitions("iot-stream") for _ in range(2)] == [[0, 1]] * 2
    assert clients.made == 2


@pytest.mark.parametrize(
    "topics",
    [
        {},
        {"iot-stream": SimpleNamespace(error=None, partitions={})},
        {"iot-stream": SimpleNamespace(error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), partitions={})},
    ],
)
def test_a_broker_that_names_no_partition_says_nothing(clients: type[Client], topics: Any) -> None:
    """Nothing heard is not the same as everything judged."""
    clients.topics = topics
    with pytest.raises(KafkaException):
        silence._partitions("iot-stream")
