"""librdkafka's statistics, every few seconds: the lag of partitions, and whether brokers answer."""

import json
import time
from collections.abc import Iterable
from typing import Any

EVERY_MS = 2000
# After this many silent intervals the last statistics say nothing any more.
_STALE_SECONDS = 5 * EVERY_MS / 1000


class KafkaStatistics:
    """Give `update` to the client as its `stats_cb`; it is called by the thread that polls the client."""

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = tuple(topics)
        self._updated_at = 0.0
        self._reachable = False
        self._lag: dict[tuple[str, int], int] = {}

    def update(self, statistics: str) -> None:
        """Reads the statistics that librdkafka emits as JSON."""
        document: dict[str, Any] = json.loads(statistics)
        # Without those that stand for groups and bootstrap addresses, whose state says nothing.
        brokers = [broker for broker in document["brokers"].values() if broker["nodeid"] >= 0]
        self._reachable = any(broker["state"] == "UP" for broker in brokers)
        self._lag = {
            (topic, p["partition"]): _lag(p)
            for topic in self._topics
            for p in document["topics"].get(topic, {}).get("partitions", {}).values()
            if p["partition"] >= 0
        }
        self._updated_at = time.monotonic()

    def lag(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, ...], float]:
        """The records after the committed offset of each of these partitions, where that is known."""
        known = (one for one in sorted(partitions) if self._lag.get(one, -1) >= 0)
        return {(topic, str(number)): self._lag[topic, number] for topic, number in known}

    def reachable(self) -> bool:
        """Whether a broker answers, by the client's last statistics."""
        return self._reachable and time.monotonic() - self._updated_at < _STALE_SECONDS


def _lag(partition: dict[str, Any]) -> int:
    """Records after the committed offset; all of a partition never committed; -1 where the end is unknown."""
    end = int(partition["hi_offset"])
    # A negative offset means that it is unknown.
    begin = max(0, partition["committed_offset"], partition["lo_offset"])
    return -1 if end < 0 else max(0, end - begin)
