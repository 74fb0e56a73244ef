"""Messages by MQTT: from publish to committed row at several rates, and the most that one gateway takes."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from rich.progress import Progress

from compose.local.preparation import process_environment
from compose.local.stack import Stack
from tests.bench import cost
from tests.bench.drain import TOPIC

PROJECT = Path(__file__).resolve().parents[2]
QUEUED_SECONDS, QUEUED_RATE = 8, 10_000
MOST_SECONDS = 120.0


def latency(stack: Stack, rate: int, seconds: int, progress: Progress) -> dict[str, Any]:
    """Publishes at a constant rate by 60 devices, 1% violating and 0.5% bad; what the load tester found."""
    task = progress.add_task(f"{rate:,} messages/s by MQTT", total=None)
    found, status = _load(stack, rate, seconds, settle=60)
    progress.remove_task(task)
    kept = ("achieved_rate", "published", "lost", "doubled", "settle_seconds", "latency_ms")
    return {"rate": rate, "seconds": seconds, "exit_code": status, **{name: found[name] for name in kept}}


def gateway(stack: Stack, progress: Progress) -> dict[str, Any]:
    """How many messages a second one gateway takes from the broker to Kafka's confirmation.

    They wait in the gateway's session, published at QoS 1 while it was stopped: nobody publishes meanwhile,
    and neither bridge nor worker runs. The clock runs from the first record to the last.
    """
    task = progress.add_task("messages for a gateway that is away", total=None)
    for name in ("gateway", "bridge", "worker"):
        stack.stop(name)
    before = _records(stack)
    waiting = int(_load(stack, QUEUED_RATE, QUEUED_SECONDS, settle=1)[0]["acknowledged"])
    progress.update(task, description="gateway", total=waiting)
    spent = cost.cpu_seconds(stack, ("kafka", "mosquitto"))
    stack.start("gateway")
    deadline = time.monotonic() + MOST_SECONDS
    while (first := _records(stack) - before) == 0 and time.monotonic() < deadline:
        time.sleep(0.005)
    began = time.monotonic()
    while (done := _records(stack) - before) < waiting and time.monotonic() < deadline:
        progress.update(task, completed=done)
        time.sleep(0.02)
    seconds = time.monotonic() - began
    progress.remove_task(task)
    if done < waiting:
        raise RuntimeError(f"the gateway took {done:,} of {waiting:,} messages in {MOST_SECONDS:.0f} s")
    after = cost.cpu_seconds(stack, ("kafka", "mosquitto", "gateway"))
    stack.start("worker")
    stack.start("bridge")
    return {
        "per_second": (waiting - first) / seconds,
        "messages": waiting,
        "cpu_us": {name: (used - spent.get(name, 0.0)) / waiting * 1e6 for name, used in after.items()},
    }


def _load(stack: Stack, rate: int, seconds: int, settle: int) -> tuple[dict[str, Any], int]:
    report = stack.layout.base / "loadtest.json"
    command = [sys.executable, "-m", "ingest.loadtest", "--rate", str(rate), "--duration", str(seconds)]
    command += ["--settle", str(settle), "--bad-ratio", "0.005", "--json", str(report)]
    ended = subprocess.run(
        command,
        env=process_environment(stack.env),
        cwd=PROJECT,
        timeout=seconds + settle + 120,
        capture_output=True,
        text=True,
        check=False,
    )
    # 1: something is missing, which the report names.
    if ended.returncode not in {0, 1}:
        raise RuntimeError(f"the load test could not be run: {ended.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(report.read_text())
    return found, ended.returncode


def _records(stack: Stack) -> int:
    consumer = Consumer({"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "bench"})
    try:
        partitions = consumer.list_topics(TOPIC, 10).topics[TOPIC].partitions
        return sum(consumer.get_watermark_offsets(TopicPartition(TOPIC, one), 10)[1] for one in partitions)
    finally:
        consumer.close()
