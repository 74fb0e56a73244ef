"""The lag and the brokers as librdkafka's statistics report them."""

import json
from typing import Any

from ingest.health.kafka_statistics import KafkaStatistics


def told(partitions: dict[int, dict[str, int]], state: str = "UP") -> KafkaStatistics:
    """Statistics of a client with these partitions and one broker in this state."""
    document: dict[str, Any] = {
        "brokers": {
            "b:1/1": {"nodeid": 1, "state": state},
            "GroupCoordinator": {"nodeid": -1, "state": "UP"},
        },
        "topics": {
            "iot-stream": {"partitions": {str(n): {"partition": n, **p} for n, p in partitions.items()}}
        },
    }
    statistics = KafkaStatistics(["iot-stream"])
    statistics.update(json.dumps(document))
    return statistics


def test_the_lag_counts_from_the_committed_offset() -> None:
    """If a partition was never committed, everything counts; if the end is unknown, nothing is reported."""
    statistics = told(
        {
            0: {"hi_offset": 10, "committed_offset": 7, "lo_offset": 0},
            1: {"hi_offset": 10, "committed_offset": -1001, "lo_offset": 4},
            2: {"hi_offset": 10, "committed_offset": -1001, "lo_offset": -1001},
            3: {"hi_offset": -1001, "committed_offset": 3, "lo_offset": 0},
            4: {"hi_offset": 10, "committed_offset": 10, "lo_offset": 0},
        }
    )
    asked = [("iot-stream", number) for number in range(4)]
    assert statistics.lag(asked) == {
        ("iot-stream", "0"): 3,
        ("iot-stream", "1"): 6,
        ("iot-stream", "2"): 10,
    }


def test_kafka_is_reachable_while_a_broker_is_up() -> None:
    """A coordinator's entry is none; and before the first report nothing is known."""
    assert told({}).reachable()
    assert not told({}, state="INIT").reachable()
    assert not KafkaStatistics(["iot-stream"]).reachable()
