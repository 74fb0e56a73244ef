"""The registry's task, run at once by a test, and activity of many devices for it."""

from datetime import UTC, datetime

from tasks import register_devices
from tasks.batch.messages import Message
from tasks.devices import activity
from tasks.domain.payload import Limits
from tasks.rows.validate import Received
from tasks.servers.redis_client import DEVICES_ACTIVE, DEVICES_REST, client
from tasks.telemetry import DOMAIN


def register() -> None:
    """Runs the task as beat has it run, but without a pause from a run before."""
    client().delete(DEVICES_REST)
    register_devices.register()


def report_active(user: str, devices: int) -> None:
    """Puts a part's activity of so many devices, one reading each, where a finished batch puts it."""
    now = datetime.now(UTC)
    now_ms = int(now.timestamp() * 1000)
    by_source: activity.BySource = {}
    for number in range(devices):
        topic = f"users/{user}/devices/d{number}/telemetry"
        reading = DOMAIN.validate(topic, b'{"sequence_id": 1}', now_ms, Limits())
        message = Message(0, number, now_ms, topic, "", 0, b"")
        by_source[reading.source] = [Received(message, reading)]
    client().xadd(DEVICES_ACTIVE, {"part": activity.pack(DOMAIN.name, by_source)})
