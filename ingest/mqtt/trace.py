"""A message's trace at the gateway: where it comes from, whether it is followed, and the gateway's span."""

import random
import re
import time
from collections.abc import Callable
from contextlib import suppress

from ingest.mqtt.packets import user_properties
from tasks.domain.payload import Refused
from tasks.domain.routing import domain_of
from tasks.observe import tracing
from tasks.observe.tracing import SpanContext, child, parse
from tasks.registry import domains
from tasks.settings import settings

# A member as plain as machines write it; an escaped, exotic or distant one is not found.
LOOK_AT_BYTES = 8192
_TRACEPARENT = re.compile(rb'\s*:\s*"([0-9a-f-]{55,200})"')
_SEQUENCE_ID = re.compile(rb"\s*:\s*(-?[0-9]{1,19})\b")
# A text that does not end takes all that is left: so no byte is looked at twice.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_DEEPER = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


def traceparent_of(properties: bytes, payload: bytes) -> str:
    """The `traceparent` of the MQTT user property, else of the payload's top level, else nothing."""
    if b"traceparent" in properties:
        for name, value in user_properties(properties):
            if name == "traceparent" and parse(value):
                return value
    # A search for bytes; only a payload that has them is looked at more closely.
    if b'"traceparent"' not in payload:
        return ""
    found = _top_level(payload, b'"traceparent"', _TRACEPARENT)
    return found.decode() if parse(found.decode()) else ""


class Span:
    """The gateway's span of one message, from its arrival to Kafka's confirmation."""

    def __init__(
        self, context: SpanContext, parent: SpanContext | None, topic: str, payload: bytes, owner: str = ""
    ) -> None:
        self._context, self._parent = context, parent
        self._begun_ns = time.time_ns()
        self._attributes: dict[str, str | int] = {}
        with suppress(Refused):
            self._attributes |= domain_of(topic, domains()).parse_topic(topic, owner)._asdict()
        if sequence_id := _top_level(payload, b'"sequence_id"', _SEQUENCE_ID):
            number = int(sequence_id)
            if -(2**63) <= number < 2**63:
                self._attributes["sequence_id"] = number

    def end(self) -> None:
        """Kafka has the record."""
        tracing.record("gateway", self._context, self._parent, self._begun_ns, self._attributes)


def follow(
    traceparent: str, topic: str, payload: bytes, owner: str = ""
) -> tuple[str, Callable[[], None] | None]:
    """The `traceparent` to send on, and what to call when Kafka has the message.

    `owner` is the user by the access lists, where the topic does not name one.

    With tracing off nothing is begun. With tracing on, every message gets a trace, so that a dead letter can
    name it; those that are sampled, here or by the sender, get the gateway's span.
    """
    if not tracing.on():
        return traceparent, None
    parent = parse(traceparent)
    if (parent and parent.sampled) or random.random() < settings().trace_sample_ratio:  # noqa: S311 - a sample
        context = child(parent, sampled=True)
        return context.traceparent(), Span(context, parent, topic, payload, owner).end
    return traceparent or tracing.unrecorded(), None


def _top_level(payload: bytes, name: bytes, value: re.Pattern[bytes]) -> bytes:
    """The member's value where it is one of the payload's own, not of an object in it, and not in a text."""
    depth = 0
    looked_at = payload[:LOOK_AT_BYTES]
    if name not in looked_at:
        return b""
    for token in _TOKEN.finditer(looked_at):
        if depth == 1 and token[0] == name and (found := value.match(looked_at, token.end())):
            return found[1]
        depth += _DEEPER.get(token[0], 0)
    return b""
