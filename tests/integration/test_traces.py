"""One message is followed from the device to its row, as the collector sees it; the rest leaves no span."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local import envfile
from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tests.conftest import PROCESSES, PROJECT, DeadLetters
from tests.integration import fleet
from tests.integration.collector import Collector, Span, collecting
from tests.integration.lag import wait_for_no_lag

RULES = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}]


@pytest.fixture(scope="module")
def collector(stack: Stack) -> Iterator[Collector]:
    """Receives the spans of all processes, which by themselves sample nothing."""
    before = stack.env
    with collecting() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "TRACE_SAMPLE_RATIO": "0"}
        envfile.write(stack.layout.env, {**before, **settings})
        try:
            for name in PROCESSES:
                stack.stop(name)
            stack.up(PROCESSES)
            yield collector
        finally:
            envfile.write(stack.layout.env, before)
            for name in PROCESSES:
                stack.stop(name)


def only(spans: list[Span]) -> Span:
    """The one span."""
    assert len(spans) == 1, spans
    return spans[0]


def wait_for_spans(collector: Collector, messages: int) -> None:
    """Returns when all processes' spans of so many messages have come; each exports on its own clock."""

    def all_there() -> bool:
        flushes = collector.spans("batch_flush")
        stores = collector.spans("store_telemetry_batch")
        of_messages = ("mqtt_publish", "gateway", "worker_process")
        return (
            all(len(collector.spans(name)) >= messages for name in of_messages)
            and sum(len(flush.links) for flush in flushes) >= messages
            and {flush.span_id for flush in flushes} <= {store.parent_id for store in stores}
        )

    fleet.wait_until(all_there, 30, f"the spans of {messages} messages")


def test_a_message_is_followed_from_its_publish_to_its_row(
    stack: Stack, collector: Collector, tmp_path: Path
) -> None:
    """mqtt_publish, gateway and worker_process are one trace; the flush of its batch links to it."""
    result = tmp_path / "result.json"
    argv = [sys.executable, "-m", "ingest.loadtest", "--users", "1", "--devices-per-user", "2"]
    argv += ["--rate", "20", "--duration", "2", "--bad-ratio", "0", "--json", str(result)]
    environment = {**process_environment(stack.env), "TRACE_SAMPLE_RATIO": "1"}
    done = subprocess.run(
        argv, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    wanted = json.loads(result.read_text())["published"]
    assert wanted >= 20
    wait_for_spans(collector, wanted)
    for publish in collector.spans("mqtt_publish"):
        names = {key: publish.attributes[key] for key in ("user_id", "device_id", "sequence_id")}
        gateway = only(collector.spans("gateway", **names))
        worker = only(collector.spans("worker_process", **names))
        assert publish.trace_id == gateway.trace_id == worker.trace_id
        assert (publish.parent_id, gateway.parent_id) == ("", publish.span_id)
        assert worker.parent_id == gateway.span_id
        assert worker.attributes["outcome"] in {"row", "alert"}
        flush = only(
            [f for f in collector.spans("batch_flush") if (worker.trace_id, worker.span_id) in f.links]
        )
        store = only([s for s in collector.spans("store_telemetry_batch") if s.parent_id == flush.span_id])
        assert store.trace_id == flush.trace_id
        assert publish.start <= gateway.start <= gateway.end
        assert gateway.start <= worker.start <= worker.end <= flush.start <= store.end
    expected = {"sluice-loadtest", "sluice-gateway", "sluice-bridge", "sluice-worker"}
    fleet.wait_until(lambda: expected <= {span.service for span in collector.spans()}, 30, "all services")


def test_a_batch_is_a_trace_through_bridge_and_celery(stack: Stack, collector: Collector) -> None:
    """The bridge's batch, the tasks that Celery's headers carried it to, and the flush are one trace."""
    (device,) = fleet.devices(stack, [(uuid4().hex[:8], "d")])
    traceparent = f"00-{uuid4().hex}-{uuid4().hex[:16]}-01"
    fleet.publish_traced(device, b'{"sequence_id": 1}', traceparent)
    fleet.disconnect([device])

    def flushes() -> list[Span]:
        return [
            span
            for span in collector.spans("batch_flush")
            if traceparent.split("-")[1] in {trace_id for trace_id, _ in span.links}
        ]

    fleet.wait_until(lambda: bool(flushes()), 30, "the flush")
    flush = only(flushes())
    expected = {"batch", "run/tasks.process.process_part", "run/tasks.store.store_batch"}

    def names() -> set[str]:
        return {span.name for span in collector.spans() if span.trace_id == flush.trace_id}

    fleet.wait_until(lambda: expected <= names(), 30, "the spans of the batch")


def test_a_dead_letter_is_recorded_and_names_its_trace(
    stack: Stack, collector: Collector, dead_letters: DeadLetters
) -> None:
    """Nobody sampled it, and yet its envelope leads to the span that says why it was refused."""
    run = uuid4().hex[:8]
    (device,) = fleet.devices(stack, [(run, "d")])
    device.publish(b'{"sequence_id": 1}')
    device.publish(b'{"sequence_id": "two"}')
    device.await_acknowledged()

    def letters() -> list[dict[str, Any]]:
        return [letter for _, letter in dead_letters.read() if letter["original_topic"] == device.topic]

    # The broker has acknowledged it; the gateway may not have taken it yet.
    fleet.wait_until(lambda: bool(letters()), 60, "the dead letter")
    wait_for_no_lag(stack)
    (letter,) = letters()
    trace_id = letter["traceparent"].split("-")[1]
    fleet.wait_until(lambda: bool(collector.spans("worker_process", user_id=run)), 30, "the span")
    span = only(collector.spans("worker_process", user_id=run))
    assert span.trace_id == trace_id
    assert span.attributes["outcome"] == "dead_letter"
    assert span.attributes["error_type"] == letter["error_type"]
    fleet.disconnect([device])


def test_a_message_that_changes_an_alert_is_recorded(
    stack: Stack, collector: Collector, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    """A device's readings that trigger and resolve the alert, and none of the others."""
    run = uuid4().hex[:8]
    database.execute(
        "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::jsonb)", [run, json.dumps(RULES)]
    )
    (device,) = fleet.devices(stack, [(run, "d")])
    for sequence_id, temperature in enumerate((20, 85, 86, 21, 22)):
        device.publish(json.dumps({"sequence_id": sequence_id, "temperature": temperature}).encode())
    device.await_acknowledged()
    wait_for_no_lag(stack)

    def numbers() -> set[int]:
        return {s.attributes["sequence_id"] for s in collector.spans("worker_process", user_id=run)}

    fleet.wait_until(lambda: len(numbers()) >= 2, 30, "the spans")
    assert numbers() == {1, 3}
    fleet.disconnect([device])
