"""The span `mqtt_publish` of sampled messages: from the device's publish to the broker's acknowledgement."""

import time
from typing import NamedTuple

from ingest.loadtest.fleet.device import Device, PendingMessage
from tasks.observe import tracing
from tasks.observe.tracing import SpanContext, is_sampled, parse


class _Begun(NamedTuple):
    context: SpanContext
    begun_ns: int


class PublishSpans:
    """Follows the sampled messages. With tracing off it does nothing."""

    def __init__(self) -> None:
        self._begun: dict[tuple[int, int], _Begun] = {}

    def published(self, device: Device, message: PendingMessage) -> None:
        """The device is about to send the message."""
        if not tracing.on():
            return
        traceparent = message.traceparent.decode()
        if is_sampled(traceparent) and (context := parse(traceparent)):
            self._begun[device.index, message.sequence_id] = _Begun(context, time.time_ns())

    def acknowledged(self, device: Device, sequence_id: int) -> None:
        """The broker has the message."""
        if (begun := self._begun.pop((device.index, sequence_id), None)) is not None:
            named: dict[str, str | int] = {"user_id": device.user, "device_id": device.name}
            named["sequence_id"] = sequence_id
            tracing.record("mqtt_publish", begun.context, None, begun.begun_ns, named)
