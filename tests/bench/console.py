"""Times of the console and the HTTP API with 10,000 devices and 10 million rows, while messages come."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from rich.progress import Progress

from compose.local.stack import Stack
from tests.bench import publish
from tests.bench.backlog import Backlog
from tests.bench.drain import drain
from tests.integration import web_process
from tests.integration.console_client import Person

DEVICES, USERS, ROWS = 10_000, 100, 10_000_000
AT_ONCE = 1_000_000
RATE, LOAD_SECONDS, WARM_SECONDS, PAIRS = 1000, 60, 10, 3
ASKED = 40
# Below the rate that one caller may have.
PAUSE_SECONDS = 0.15
PERCENTILES = ("p50", "p95", "p99")

# A day of each device, oldest first, so that chunks are filled as they are in life.
_ROWS = f"""
    INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature, battery, extra_data)
    SELECT %s - interval '1 day' + n * interval '1 day' / {ROWS},
           'user' || n %% {USERS}, 'device' || n %% {DEVICES}, n / {DEVICES}, n %% 65 - 20, n %% 100,
           '{{"rssi": -70, "firmware": "2.14.3"}}'
    FROM generate_series(%s::bigint, %s::bigint - 1) AS n
"""
_DEVICES = f"""
    INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen, own_time)
    SELECT 'user' || n %% {USERS}, 'device' || n, 'telemetry', now() - interval '1 day',
           %s - n * interval '1 s', now()
    FROM generate_series(0, {DEVICES} - 1) AS n ON CONFLICT DO NOTHING
"""

Ask = Callable[[], int]


def console(stack: Stack, backlog: Backlog, progress: Progress) -> dict[str, Any]:
    """Milliseconds of each page and route beside 1,000 messages/s; publish to row without and with them.

    Both in turn, PAIRS times. Dead letters are the bad records of the backlog, which is drained before.
    """
    drain(stack, backlog, progress)
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as database:
        _fill(database, progress)
    with web_process.role(stack) as url, web_process.running(stack, DATABASE_URL=url) as web:
        person = Person(web)
        person.sign_in(secret=web_process.OPERATOR)
        asks = _asks(web, person)
        publish.latency(stack, RATE, WARM_SECONDS, progress)
        alone, beside = [], []
        found: dict[str, list[float]] = {}
        for _ in range(PAIRS):
            alone.append(publish.latency(stack, RATE, LOAD_SECONDS, progress)["latency_ms"])
            with _asking(asks, found):
                beside.append(publish.latency(stack, RATE, LOAD_SECONDS, progress)["latency_ms"])
    return {
        "devices": DEVICES,
        "rows": ROWS,
        "answers_ms": {name: _spread(seconds) for name, seconds in found.items()},
        "alone_ms": _medians(alone),
        "beside_ms": _medians(beside),
    }


def _fill(database: psycopg.Connection[tuple[Any, ...]], progress: Progress) -> None:
    row = database.execute("SELECT now()").fetchone()
    assert row is not None
    task = progress.add_task(f"table of {ROWS:,} rows", total=ROWS)
    for start in range(0, ROWS, AT_ONCE):
        database.execute(_ROWS, [row[0], start, start + AT_ONCE])
        progress.advance(task, AT_ONCE)
    database.execute(_DEVICES, [row[0]])
    database.execute("VACUUM ANALYZE raw_telemetry, devices")
    progress.remove_task(task)


def _asks(web: web_process.Web, person: Person) -> dict[str, Ask]:
    device = {"user": "user7", "device": "device7"}
    series = {"key": "temperature", "from": "24h", "bucket": "15m", "agg": "avg"}

    def route(path: str, **query: object) -> Ask:
        return lambda: web.ask(path, query=query).status

    def page(path: str, **query: object) -> Ask:
        return lambda: person.get(path, **query).status

    return {
        "GET devices": route("/devices", limit=50),
        "GET devices, longest silent first, of a user": route("/devices", limit=50, user="user7"),
        "GET …/series of a day": route("/devices/user7/device7/series", **series),
        "GET dead-letters of a day": route("/dead-letters", since="24h"),
        "page of devices": page("/devices"),
        "page of a device, its day": page("/device", **device, span="day"),
        "page of dead letters of a day": page("/dead-letters", since="24h"),
    }


@contextmanager
def _asking(asks: dict[str, Ask], found: dict[str, list[float]]) -> Iterator[None]:
    """Asks for each in turn, one after the other, at most `ASKED` times more, until the block ends."""
    ending = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(ASKED):
                for name, ask in asks.items():
                    if ending.wait(PAUSE_SECONDS):
                        return
                    found.setdefault(name, []).append(_seconds(name, ask))
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that measures
            failures.append(error)

    asking = threading.Thread(target=run, name="asking", daemon=True)
    asking.start()
    try:
        yield
    finally:
        ending.set()
        asking.join()
    if failures:
        raise failures[0]


def _seconds(name: str, ask: Ask) -> float:
    begun = time.monotonic()
    status = ask()
    if status != 200:
        raise RuntimeError(f"{name}: status {status}")
    return time.monotonic() - begun


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50": round(statistics.median(ordered) * 1000, 1),
        "p95": round(ordered[int(len(ordered) * 0.95)] * 1000, 1),
        "most": round(ordered[-1] * 1000, 1),
        "answers": len(ordered),
    }


def _medians(latencies: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """The median, the least and the most of the runs, for each percentile."""
    each = {name: [latency[name] for latency in latencies] for name in PERCENTILES}
    return {
        name: {"median": statistics.median(found), "least": min(found), "most": max(found)}
        for name, found in each.items()
    }
