"""Logs of every process: one JSON object per line, a stable `event` in each, never a payload or a secret.

`event` names what happened and never varies; the other fields have the details. An entry of a library has the
event `library`, and its text in `message`. Inside a recorded span, `trace_id` and `span_id` identify it.
"""

import logging
import sys

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from tasks.settings import settings


def configure(level: str | None = None) -> None:
    """Sends structlog's entries and the standard library's to stderr in the format of the settings.

    From the settings' level on, unless one is given.
    """
    chosen = settings()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_library],
            processors=[
                without_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
        if chosen.log_format == "json"
        else structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[without_meta, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level or chosen.log_level.upper())
    # At info level, a line for each task would be most of the log.
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)


def _add_trace(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.trace_flags.sampled:
        entry["trace_id"] = f"{context.trace_id:032x}"
        entry["span_id"] = f"{context.span_id:016x}"
    return entry


def _name_library(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    entry["message"] = entry.pop("event", "")
    entry["event"] = "library"
    return entry
