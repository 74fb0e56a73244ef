"""Waiting until the bridge has committed everything."""

from compose.local.stack import Stack
from ingest.admin.servers.positions import KafkaAway, Positions
from tests.integration import fleet


def wait_for_no_lag(stack: Stack, topic: str = "iot-stream", seconds: float = 180) -> None:
    """Returns when the bridge has committed every record of the topic."""
    positions = Positions(stack.env["KAFKA_BOOTSTRAP_SERVERS"], "sluice-bridge")

    def no_lag() -> bool:
        try:
            return positions.lag(topic) == 0
        except KafkaAway:
            return False

    fleet.wait_until(no_lag, seconds, f"the lag of {topic} to be 0")
    positions.close()
