"""Second stage, queue `db`: writes the rows of a whole batch, and reports to the bridge that it is done."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psycopg
import structlog

from tasks import registry
from tasks.app import app
from tasks.batch import handover, lease
from tasks.batch.messages import NOTHING_DEFERRED, Deferred, PartResult, Row
from tasks.dead_letters import sender
from tasks.domain.domain import AnyDomain
from tasks.errors import DatabaseAway, TableOutdated
from tasks.observe.metrics import worker as metrics
from tasks.observe.metrics.several import IGNORED
from tasks.outbox import deliver
from tasks.outbox.stream import LostOutbox
from tasks.rows import letters
from tasks.rows.spans import flushing
from tasks.rows.write import Unstored, write
from tasks.servers import counters, database, generation
from tasks.servers.breaker import CircuitOpen
from tasks.servers.pauses import pauses
from tasks.servers.redis_client import (
    ALERTS_GENERATION,
    ALERTS_READY,
    COUNTERS,
    DEVICES_ACTIVE,
    DEVICES_READY,
    activity_key,
    client,
    done_key,
    lease_key,
    part_key,
    rows_key,
)
from tasks.settings import settings

log = structlog.get_logger()

FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.1, 1.0
# For the changes of alerts, after however long a wait for the rows.
LEAST_SECONDS = 5.0
REPORT = Path(__file__).with_name("report.lua")


class StatesLost(lease.LeaseLost):
    """Redis has lost data since the alerts of the batch were judged, and maybe their changes with it."""


class BatchOutcome(NamedTuple):
    """The outcome of a batch: its messages, how many have dead letters, hold no reading, or are deferred.

    `readings` are those of its messages, of which `inserted` are new rows and `wrong` refused. `generations`
    are those of the states that its parts were judged with; a part without rules has none.
    """

    total: int
    dead: int
    ignored: int
    readings: int
    inserted: int
    wrong: int
    oldest_ms: int
    generations: frozenset[str] = frozenset()
    deferred: Deferred = NOTHING_DEFERRED


@app.task(name="tasks.store.store_batch")
def store_batch(
    results: list[PartResult | None] | PartResult | None,
    batch: str,
    parts: int,
    total: int,
    bridge: str,
    domain: str = "",
) -> None:
    """Writes a complete batch and reports its `total` messages as done; hands an incomplete one back.

    The report names the deferred messages, which are not done.
    Keeps the lease and waits up to `store_wait_seconds` for a database that is away, for the changes of
    alerts at least 5 s, then raises `DatabaseAway`. Raises `TableOutdated`, `DeadLettersUnconfirmed` and
    `redis.RedisError` at once. The bridge then sends the batch again. Safe to run any number of times.
    A batch is done when its changes of alerts are in the tables, too: from then on Redis may lose them.
    """
    deadline = time.monotonic() + settings().store_wait_seconds
    arrived = {result["part"]: result for result in _as_list(results) if result and result["batch"] == batch}
    if len(arrived) != parts or sum(map(_accounted, arrived.values())) != total:
        log.info("batch_incomplete", batch=batch, parts=parts, arrived=sorted(arrived))
        lease.hand_back(batch)
        return
    try:
        with lease.held(batch, "store"):
            rows = handover.load_rows(batch, parts)
            with metrics.STAGE_SECONDS.time("store"), flushing(batch, len(rows), arrived.values()):
                inserted, refused = _wait_and_write(registry.by_name(domain), rows, deadline)
            partial = {(p, offset) for r in arrived.values() for p, offset in r.get("partial", ())}
            # Those that have a letter only because of the database.
            more = _refuse(refused, partial, batch, parts) - len(partial) if refused or partial else 0
            awaited = _awaited(arrived.values())
            deliver.await_written(max(LEAST_SECONDS, deadline - time.monotonic()), awaited)
            if awaited:
                deliver.note_published()
            dead = sum(result["dead"] for result in arrived.values()) + more
            ignored = sum(result.get("ignored", 0) for result in arrived.values())
            wrong = sum(result.get("wrong", result["dead"]) for result in arrived.values())
            readings = wrong + sum(result.get("readings", result["rows"]) for result in arrived.values())
            oldest_ms = min(result["oldest_ms"] for result in arrived.values())
            generations = frozenset(r["generation"] for r in arrived.values() if r.get("generation"))
            deferred = _deferred(arrived.values())
            outcome = BatchOutcome(
                *(total, dead, ignored, readings, inserted, wrong + len(refused)),
                *(oldest_ms, generations, deferred),
            )
            _report(batch, parts, bridge, outcome)
    except (StatesLost, LostOutbox):
        metrics.BATCHES_GIVEN_UP.add(1, "store")
        log.warning("batch_judged_in_lost_memory", batch=batch)
    except lease.LeaseLost:
        metrics.BATCHES_GIVEN_UP.add(1, "store")
        log.info("batch_given_up", batch=batch, stage="store")


def _awaited(results: Iterable[PartResult]) -> dict[str, int] | None:
    """What must be in the tables; None, meaning everything, if a part does not say."""
    awaited: dict[str, int] = {}
    for result in results:
        if "awaited" not in result:
            return None
        for user_id, count in result["awaited"].items():
            awaited[user_id] = max(count, awaited.get(user_id, 0))
    return awaited


def _wait_and_write(domain: AnyDomain, rows: list[Row], deadline: float) -> tuple[int, list[Unstored]]:
    waits = pauses(FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS)
    while True:
        try:
            with database.access() as connection:
                return write(connection, domain, rows)
        except psycopg.Error as error:
            if database.lacks_column(error):
                # Handed back at once: a waiting worker could do the work of other domains instead.
                raise TableOutdated(f"{domain.table}: {error.diag.message_primary}") from error
            pause = next(waits)
            if time.monotonic() + pause > deadline:
                raise DatabaseAway(str(error)) from error
            if pause == FIRST_PAUSE_SECONDS:
                counters.add(client(), {"store_waits": 1})
                metrics.STORE_WAITS.add(1)
            if not isinstance(error, CircuitOpen):
                log.warning("store_waits", error=str(error).strip(), sqlstate=error.sqlstate)
        # While the breaker is open, the pause bounds how late this worker sees that another one closed it.
        time.sleep(pause)


def _refuse(refused: list[Unstored], partial: set[tuple[int, int]], batch: str, parts: int) -> int:
    """Sends the letters of messages with readings that are not rows; returns how many there are."""
    loaded = [handover.load_part(batch, part) for part in range(parts)]
    messages = {message[:2]: message for part in loaded for message in part.messages}
    domain = registry.by_name(loaded[0].domain)
    made = letters.letters(domain, messages, partial, refused)
    sender.send(domain, made, loaded[0].first_offsets)
    return len(made)


def _report(batch: str, parts: int, bridge: str, outcome: BatchOutcome) -> None:
    """Reports to the bridge that the batch is done, and removes its data from Redis.

    Raises `LeaseLost` if the batch was given up, or lost with Redis, and `StatesLost`.
    """
    if len(outcome.generations) > 1:
        raise StatesLost(batch)
    deferred = outcome.deferred
    received = outcome.total - sum(map(len, deferred))
    duplicate = outcome.readings - outcome.inserted - outcome.wrong
    counted: dict[counters.Name, int] = {
        "received": received,
        "stored": outcome.inserted,
        "duplicate": duplicate,
        "dead_lettered": outcome.dead,
        "ignored": outcome.ignored,
        "readings": outcome.readings,
        "refused": outcome.wrong,
        "batches": 1,
    }
    latency_ms = int(time.time() * 1000) - outcome.oldest_ms
    active_keys = [activity_key(batch, part) for part in range(parts)]
    blobs_keys = [key(batch, part) for part in range(parts) for key in (part_key, rows_key)]
    report = f"{batch} {outcome.total}"
    if any(deferred):
        report += " " + json.dumps([sorted(some) for some in deferred], separators=(",", ":"))
    keys = [lease_key(batch), done_key(bridge), COUNTERS, ALERTS_READY, ALERTS_GENERATION]
    keys += [DEVICES_ACTIVE, DEVICES_READY, *active_keys, *blobs_keys]
    judged_in = next(iter(outcome.generations), "")
    arguments: list[str | int] = [judged_in, report, lease.DONE_SECONDS, latency_ms, parts]
    for name, amount in counted.items():
        arguments += [name, amount]
    said = int(generation.script(REPORT)(keys=keys, args=arguments))
    if said != 1:
        raise (StatesLost if said < 0 else lease.LeaseLost)(batch)
    metrics.RECEIVED.add(received)
    metrics.STORED.add(outcome.inserted)
    metrics.DUPLICATE.add(duplicate)
    metrics.READINGS.add(outcome.readings)
    IGNORED.add(outcome.ignored)
    metrics.BATCHES_FINISHED.add(1)
    metrics.END_TO_END_SECONDS.observe(max(0, latency_ms) / 1000)


def _accounted(result: PartResult) -> int:
    return result["rows"] + result["dead"] + len(result.get("soon", ())) + len(result.get("held", ()))


def _deferred(results: Iterable[PartResult]) -> Deferred:
    # They are lists, because msgpack has no tuples.
    soon = frozenset((partition, offset) for r in results for partition, offset in r.get("soon", ()))
    held = frozenset((partition, offset) for r in results for partition, offset in r.get("held", ()))
    return Deferred(soon, held)


def _as_list(results: list[PartResult | None] | PartResult | None) -> list[PartResult | None]:
    return results if isinstance(results, list) else [results]
