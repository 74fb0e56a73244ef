"""The OpenTelemetry SDK of a tracing process: makes spans, and sends them to the collector in batches."""

import os
import socket
from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.status import Status, StatusCode

# The most spans that may wait for the collector; any more are dropped, which the SDK logs.
QUEUE = 8192
EVERY_MS = 1000
EXPORT_SECONDS = 5

# The ids of a trace and of a span, and whether it is recorded.
Context = tuple[int, int, bool]

_SCOPE = InstrumentationScope("sluice")


class Exporter:
    """Exports this process's spans, and has Celery carry the context in its headers.

    Has a thread of its own, so it must be made after the last fork.
    """

    def __init__(self, service: str, endpoint: str) -> None:
        instance = f"{socket.gethostname()}-{os.getpid()}"
        self._resource = Resource.create({"service.name": service, "service.instance.id": instance})
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        self._processor = BatchSpanProcessor(exporter, QUEUE, EVERY_MS, 512)
        # A Celery task is recorded if it belongs to a recorded batch.
        self._provider = TracerProvider(ParentBased(ALWAYS_OFF), self._resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self._processor)
        CeleryInstrumentor().instrument(  # type: ignore[no-untyped-call]
            tracer_provider=self._provider, skip_dep_check=True
        )

    def add(
        self,
        name: str,
        context: Context,
        parent: Context | None,
        times_ns: tuple[int, int],
        attributes: Mapping[str, str | int],
        links: Sequence[Context],
        error: str,
    ) -> None:
        """Exports one finished span; with an `error` it failed."""
        self._processor.on_end(
            ReadableSpan(
                name,
                context=_otel(context),
                parent=_otel(parent, remote=True) if parent else None,
                resource=self._resource,
                attributes=attributes,
                links=[trace.Link(_otel(link, remote=True)) for link in links],
                status=Status(StatusCode.ERROR, error) if error else Status(),
                start_time=times_ns[0],
                end_time=times_ns[1],
                instrumentation_scope=_SCOPE,
            )
        )

    def close(self) -> None:
        """Sends the waiting spans, and ends the thread."""
        CeleryInstrumentor().uninstrument()  # type: ignore[no-untyped-call]
        self._provider.shutdown()


def _otel(context: Context, *, remote: bool = False) -> trace.SpanContext:
    trace_id, span_id, sampled = context
    return trace.SpanContext(trace_id, span_id, remote, trace.TraceFlags(sampled))
