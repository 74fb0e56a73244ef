"""`python -m tests.bench.span_cost`: what tracing costs a message, as CPU time, at several sampling ratios.

Each ratio is measured in a process of its own, export to a collector on loopback included: the gateway's
share is to find or begin each message's trace, the worker's to record its span and link its batch to it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from ingest.mqtt.trace import follow, traceparent_of
from tasks import registry
from tasks.batch.messages import Message, PartResult
from tasks.observe import tracing
from tasks.rows.spans import flushing, processed
from tasks.rows.validate import validate
from tests.integration.collector import collecting

MESSAGES = 100_000
PART = 1000
RATIOS = ("0", "0.01", "0.1")
READING = {"time": "2026-05-01T10:00:00Z", "temperature": 21.5, "battery": 93, "site": "north-hall-7"}
TOPIC = "users/u/devices/d/telemetry"


def main() -> None:
    """Prints a line for each ratio; without a ratio tracing is off."""
    with collecting() as collector:
        for ratio in (None, *RATIOS):
            environment = {**os.environ, "SLUICE_ENV_FILE": os.devnull}
            if ratio is not None:
                environment |= {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                    "TRACE_SAMPLE_RATIO": ratio,
                }
            subprocess.run(
                [sys.executable, "-m", "tests.bench.span_cost", ratio or "off"], env=environment, check=True
            )


def measure(label: str) -> None:
    """Measures in this process, whose settings say whether and how much is traced."""
    tracing.begin("bench")
    payloads = [json.dumps({"sequence_id": number, **READING}).encode() for number in range(PART)]
    traceparents: list[str] = []

    def gateway() -> None:
        for number in range(MESSAGES):
            payload = payloads[number % PART]
            traceparent, end = follow(traceparent_of(b"", payload), TOPIC, payload)
            if end is not None:
                end()
            traceparents.append(traceparent)

    gateway_us = _cpu_us(gateway)
    messages = [
        Message(0, number, 1_777_629_600_000, TOPIC, traceparent, 0, payloads[number % PART])
        for number, traceparent in enumerate(traceparents)
    ]
    domain = registry.by_name("telemetry")
    parts = [validate(domain, messages[start : start + PART])[0] for start in range(0, MESSAGES, PART)]

    def worker() -> None:
        for number, readings in enumerate(parts):
            followed = processed(time.time_ns(), readings, [], [])
            result = PartResult(batch="b", part=0, rows=PART, dead=0, oldest_ms=0, followed=followed)
            with flushing(str(number), PART, [result]):
                pass

    worker_us = _cpu_us(worker)
    tracing.end()
    print(f"ratio {label:>4}: gateway {gateway_us:6.2f}, worker {worker_us:6.2f} µs/message")  # noqa: T201


def _cpu_us(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    if tracing.on():
        time.sleep(2)  # the exporter's own thread
    return (time.process_time() - began) / MESSAGES * 1e6


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        main()
