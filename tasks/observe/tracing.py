"""Traces: one message's way from the device to its row. Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set.

A message carries its context as a W3C `traceparent`, whether it is sampled or not; the gateway decides, and a
message that becomes a dead letter or changes an alert is recorded anyway. Spans are recorded when they are
over, so an unsampled message costs a look at its context and nothing else.
"""

import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from opentelemetry import trace

from tasks.settings import settings

if TYPE_CHECKING:
    from tasks.observe.exporter import Exporter

# https://www.w3.org/TR/trace-context/: later versions may have more after the flags.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_SAMPLED = "01"

Attributes = Mapping[str, str | int]


class SpanContext(NamedTuple):
    """Identifies a span and its trace, and says whether the trace is recorded."""

    trace_id: int
    span_id: int
    sampled: bool

    def traceparent(self) -> str:
        """The W3C header's value."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"


class _Export:
    """The exporter of this process's spans; None while tracing is off."""

    exporter: ClassVar["Exporter | None"] = None


def begin(process: str) -> None:
    """Makes this process export spans, if an endpoint is set. Must be called after the last fork."""
    if (endpoint := settings().otel_exporter_otlp_endpoint) is None:
        return
    # The import takes half a second and 20 MB, which only a tracing process should pay.
    from tasks.observe.exporter import Exporter  # noqa: PLC0415

    _Export.exporter = Exporter(f"sluice-{process}", endpoint)


def end() -> None:
    """Sends the last spans; waits a few seconds at most for the collector."""
    exporter, _Export.exporter = _Export.exporter, None
    if exporter is not None:
        exporter.close()


def on() -> bool:
    """Whether this process exports spans."""
    return _Export.exporter is not None


def parse(traceparent: str) -> SpanContext | None:
    """The context in a `traceparent`, or None if it is malformed."""
    if (found := _TRACEPARENT.fullmatch(traceparent)) is None:
        return None
    return SpanContext(int(found[1], 16), int(found[2], 16), bool(int(found[3], 16) & 1))


def is_sampled(traceparent: str) -> bool:
    """Whether a well-formed `traceparent` belongs to a trace that is recorded; cheaper than `parse`."""
    return traceparent.endswith(_SAMPLED)


def child(parent: SpanContext | None, *, sampled: bool) -> SpanContext:
    """A new span of the parent's trace, or of a new one."""
    trace_id = parent.trace_id if parent else random.getrandbits(128) or 1
    return SpanContext(trace_id, random.getrandbits(64) or 1, sampled)


def unrecorded() -> str:
    """The `traceparent` of a new trace that is not sampled."""
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-00"


def current() -> SpanContext | None:
    """The span around the code that runs now, if it is recorded."""
    found = trace.get_current_span().get_span_context()
    return SpanContext(found.trace_id, found.span_id, True) if found.trace_flags.sampled else None


@contextmanager
def within(context: SpanContext | None) -> Iterator[None]:
    """Makes the span the current one, for the tasks that are sent in the block and for its logs."""
    if context is None:
        yield
        return
    flags = trace.TraceFlags(context.sampled)
    span = trace.NonRecordingSpan(trace.SpanContext(context.trace_id, context.span_id, False, flags))
    with trace.use_span(span, record_exception=False, set_status_on_exception=False):
        yield


def record(
    name: str,
    context: SpanContext,
    parent: SpanContext | None,
    begun_ns: int,
    attributes: Attributes,
    links: Sequence[SpanContext] = (),
    *,
    error: str = "",
) -> None:
    """Exports a span that began at `begun_ns` (Unix time) and ends now, unless it is not sampled."""
    if _Export.exporter is not None and context.sampled:
        _Export.exporter.add(name, context, parent, (begun_ns, time.time_ns()), attributes, links, error)
