"""A log line is one JSON object that Loki reads without a parser of ours."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tasks.observe import logs, tracing
from tasks.observe.tracing import SpanContext


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The test's own logging is back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """The logged events."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_entry_has_an_event_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, with time, level, event and what belongs to it; text beyond ASCII stays readable."""
    logs.configure()
    structlog.get_logger("here").info("device_seen", device_id="Kühlraum\n2")
    (entry,) = lines(capsys)
    assert entry["event"] == "device_seen"
    assert entry["level"] == "info"
    assert entry["device_id"] == "Kühlraum\n2"
    assert str(entry["timestamp"]).endswith("Z")
    assert "trace_id" not in entry


def test_an_entry_of_a_library_has_a_stable_event_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Its varying text is in `message`; a traceback is part of its line."""
    logs.configure()
    try:
        int("no")
    except ValueError:
        logging.getLogger("somebody.else").exception("it said %s", 17)
    (entry,) = lines(capsys)
    assert (entry["event"], entry["message"], entry["logger"]) == ("library", "it said 17", "somebody.else")
    assert "ValueError: invalid literal" in str(entry["exception"])


def test_an_entry_inside_a_span_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`trace_id` and `span_id` as they stand in the trace, so that one leads to the other."""
    logs.configure()
    with tracing.within(SpanContext(0xABC, 0xDEF, True)):
        structlog.get_logger().warning("store_waits")
    with tracing.within(SpanContext(0xABC, 0xDEF, False)):
        structlog.get_logger().warning("store_waits")
    recorded, unrecorded = lines(capsys)
    assert recorded["trace_id"] == f"{0xABC:032x}"
    assert recorded["span_id"] == f"{0xDEF:016x}"
    assert "trace_id" not in unrecorded
