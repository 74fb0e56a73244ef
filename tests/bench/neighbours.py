"""The cost for one tenant of another's worst behaviour within its rights: from publish to row, in pairs."""

import json
import statistics
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
from rich.progress import Progress

from compose.local.stack import Stack
from tests.integration import fleet
from tests.integration.announced import announced
from tests.integration.subscriber import subscriber

EVERY_SECONDS = 0.25
ALONE_SECONDS, BESIDE_SECONDS = 30, 60
MOST_SECONDS, REST_SECONDS = 120.0, 300.0
# The quiet tenant's devices take turns: they are in several partitions, so in every lane.
QUIET_DEVICES = 8
RULES, FLIPS, LONG_FLIPS = 100, 1000, 100
# The longest that a rule may have.
LONG_MESSAGE = "m" * 500
PAYLOAD_BYTES, PAYLOADS_PER_SECOND = 250_000, 20
MESSAGES_PER_SECOND = 2000
SLICE_SECONDS = 0.05

Noise = Callable[[Stack, str, threading.Event], None]


def neighbours(stack: Stack, progress: Progress) -> list[dict[str, Any]]:
    """Each kind of noise by itself, for 60 s, by a tenant of its own; the quiet tenant is alone before it."""
    quiet = fleet.devices(stack, [(f"quiet-{uuid4().hex[:6]}", f"d{n}") for n in range(QUIET_DEVICES)])
    found = []
    try:
        with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as database:
            for name, noise in NOISES.items():
                task = progress.add_task(f"a quiet tenant beside {name}", total=None)
                found.append({"noise": name, **_pair(stack, database, quiet, noise)})
                progress.remove_task(task)
                progress.console.print(f"beside {name}: {found[-1]}")
    finally:
        fleet.disconnect(quiet)
    return found


def _pair(
    stack: Stack, database: psycopg.Connection[tuple[Any, ...]], quiet: list[fleet.Device], noise: Noise
) -> dict[str, Any]:
    alone = _latencies(database, quiet, ALONE_SECONDS)
    user = f"noisy-{uuid4().hex[:6]}"
    stopping = threading.Event()
    failures: list[BaseException] = []

    def make() -> None:
        try:
            noise(stack, user, stopping)
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that measures
            failures.append(error)

    maker = threading.Thread(target=make, name="noise", daemon=True)
    maker.start()
    try:
        beside = _latencies(database, quiet, BESIDE_SECONDS)
    finally:
        stopping.set()
        maker.join()
    if failures:
        raise failures[0]
    _come_to_rest(database, quiet)
    return {
        "alone_ms": _spread(alone),
        "beside_ms": _spread(beside),
        "ratio_of_medians": round(statistics.median(beside) / statistics.median(alone), 2),
    }


def _latencies(
    database: psycopg.Connection[tuple[Any, ...]], quiet: list[fleet.Device], seconds: float
) -> list[float]:
    """Seconds from publish to row of one reading after the other, at most one each quarter of a second."""
    found: list[float] = []
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        found.append(_latency(database, quiet[len(found) % len(quiet)]))
        time.sleep(max(0.0, begun + EVERY_SECONDS - time.monotonic()))
    return found


def _latency(database: psycopg.Connection[tuple[Any, ...]], device: fleet.Device) -> float:
    moment = datetime.now(UTC)
    begun = time.monotonic()
    device.publish(json.dumps({"sequence_id": 1, "time": moment.isoformat()}).encode())
    query = "SELECT FROM raw_telemetry WHERE time = %s AND user_id = %s AND device_id = %s"
    while database.execute(query, [moment, device.user, device.device]).rowcount == 0:
        if time.monotonic() - begun > MOST_SECONDS:
            raise RuntimeError(f"a reading of the quiet tenant is not a row after {MOST_SECONDS:.0f} s")
        time.sleep(0.005)
    device.pending.clear()
    return time.monotonic() - begun


def _come_to_rest(database: psycopg.Connection[tuple[Any, ...]], quiet: list[fleet.Device]) -> None:
    """Returns when the tenant who was noisy has nothing on its way any more, or after some minutes."""
    deadline = time.monotonic() + REST_SECONDS
    count = "SELECT (SELECT count(*) FROM raw_telemetry), (SELECT count(*) FROM alert_history)"
    before: tuple[Any, ...] | None = None
    while (now := database.execute(count).fetchone()) != before and time.monotonic() < deadline:
        before = now
        time.sleep(5)
    _latency(database, quiet[0])


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered) * 1000),
        "p95": round(ordered[int(len(ordered) * 0.95)] * 1000),
        "most": round(ordered[-1] * 1000),
        "readings": len(ordered),
    }


def _rules(stack: Stack, user: str, message: str) -> None:
    rules = [
        {"id": f"r{number}", "key": "heat", "operator": ">", "threshold": 80, "message": message}
        for number in range(RULES)
    ]
    with announced(stack), psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as database:
        database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)",
            [user, json.dumps(rules)],
        )


def _flips(stack: Stack, user: str, stopping: threading.Event, message: str, count: int) -> None:
    """One burst of readings of which each changes the alerts of all rules."""
    _rules(stack, user, message)
    (device,) = fleet.devices(stack, [(user, "d")])
    start = datetime.now(UTC) - timedelta(seconds=count)
    for number in range(count):
        moment = (start + timedelta(seconds=number)).isoformat()
        reading = {"sequence_id": number, "time": moment, "heat": 90 * (1 - number % 2)}
        device.publish(json.dumps(reading).encode())
    stopping.wait()
    fleet.disconnect([device])


def _steadily(
    stack: Stack, user: str, stopping: threading.Event, per_second: int, extra: dict[str, Any]
) -> None:
    """One device at a constant rate."""
    (device,) = fleet.devices(stack, [(user, "d")])
    begun, number = time.monotonic(), 0
    while not stopping.wait(SLICE_SECONDS):
        for _ in range(int((time.monotonic() - begun) * per_second) - number):
            reading = {"sequence_id": number, "time": datetime.now(UTC).isoformat(), **extra}
            device.publish(json.dumps(reading).encode())
            number += 1
        device.pending.clear()
    fleet.disconnect([device])


def _requests(stack: Stack, user: str, stopping: threading.Event) -> None:
    """Rules and commands as fast as one client of the user's sends them."""
    with subscriber(stack, user) as own:
        number = 0
        while not stopping.is_set():
            rule = {"key": "heat", "operator": ">", "threshold": number % 100, "message": "hot"}
            own.publish("config", {"rules": [rule]})
            own.publish("alerts/manage", {"device_id": "d", "rule_id": "heat", "action": "DISABLE"})
            number += 1


NOISES: dict[str, Noise] = {
    "a burst of 1,000 flips of 100 rules": lambda s, u, e: _flips(s, u, e, "hot", FLIPS),
    "flips of 100 rules with long messages": lambda s, u, e: _flips(s, u, e, LONG_MESSAGE, LONG_FLIPS),
    "5 MB/s of large payloads": lambda s, u, e: _steadily(
        s, u, e, PAYLOADS_PER_SECOND, {"blob": "x" * PAYLOAD_BYTES}
    ),
    "2,000 messages/s of one device": lambda s, u, e: _steadily(s, u, e, MESSAGES_PER_SECOND, {"heat": 20}),
    "requests as fast as they go": _requests,
}
