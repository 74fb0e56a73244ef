"""Notices a Kafka client that finds no broker any more though there are some.

A broker that comes out of a long silence may name no broker at all for a moment. librdkafka then forgets all
that it knew and asks nobody again (https://github.com/confluentinc/librdkafka/issues/5301): only a new client
helps.
"""

import time
from collections.abc import Callable

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tasks.servers import kafka
from tasks.settings import Settings

# A client finds a broker again within a few seconds of its return.
PATIENCE_SECONDS = 10.0
LOOK_SECONDS = 5.0
# librdkafka itself waits up to three seconds between two tries: a new client may be the first to find a
# broker.
FINDS = 3
ANSWER_SECONDS = 2.0


class LostBrokers:
    """Asked by the loop that polls the client; `reachable` is what that client knows."""

    def __init__(
        self,
        reachable: Callable[[], bool],
        finds_brokers: Callable[[], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reachable = reachable
        self._finds_brokers = finds_brokers
        self._now = now
        self._look_at = now() + PATIENCE_SECONDS
        self._found = 0

    def __call__(self) -> bool:
        """Whether the client reaches no broker, and has not for a while, while new ones do.

        Blocks for up to `ANSWER_SECONDS`, from time to time, while there is no broker.
        """
        now = self._now()
        if self._reachable():
            self._look_at = now + PATIENCE_SECONDS
            self._found = 0
        elif now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._found = self._found + 1 if self._finds_brokers() else 0
        return self._found >= FINDS


def finds_brokers(chosen: Settings) -> bool:
    """Whether a new client finds a broker."""
    client = AdminClient({**kafka.connection(chosen), "log_level": 0})
    try:
        return bool(client.list_topics(timeout=ANSWER_SECONDS).brokers)
    except KafkaException:
        return False
