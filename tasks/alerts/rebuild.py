"""Restores lost states from Postgres: the rows of `active_alerts`, and the latest of `alert_history`.

Changes that were not noted as published go into the outbox again; users may get some of them twice, under the
same `alert_id` and status.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NamedTuple

import msgpack
import redis
import structlog
from psycopg.rows import class_row, dict_row
from redis.exceptions import LockError
from redis.lock import Lock

from tasks.batch.cpu_limit import cpu_unlimited
from tasks.errors import NotNow
from tasks.outbox import deliver, stream, tables
from tasks.rules.active_alerts import ActiveAlert, rebuild
from tasks.rules.change import RECORDED, Change
from tasks.rules.state import Position
from tasks.servers import database, generation, rules_version
from tasks.servers.redis_client import (
    ALERTS_GENERATION,
    ALERTS_READY,
    ALERTS_REBUILDING,
    OPEN_ALERTS,
    OUTBOX,
    OUTBOX_PUBLISHED,
    alert_key,
    client,
    text,
)

log = structlog.get_logger()

# After this long without a sign of life a worker loses the rebuild to another one.
LOCK_SECONDS = 20.0
SETTLE_SECONDS = 20.0
WAIT_SECONDS = 15.0
WRITE_AT_ONCE = 1000

_COLUMNS = ", ".join(f'"{field.name}"' for field in fields(ActiveAlert))
_CHANGE_COLUMNS = ", ".join(f'"{name}"' for name in (*RECORDED, "kafka_partition", "kafka_offset"))

ROWS = f"SELECT {_COLUMNS} FROM active_alerts ORDER BY user_id, device_id"  # noqa: S608 - our own names
UNTOLD = f"""
SELECT {_CHANGE_COLUMNS},
    -- A command about a rule without an alert has an id of its own; ENABLED has that of what DISABLED ended.
    EXISTS (
        SELECT FROM alert_history AS announced
        WHERE announced.alert_id = alert_history.alert_id
            AND announced.status IN ('TRIGGERED', 'FLAPPING'))
    AND NOT EXISTS (
        SELECT FROM alert_history AS ended
        WHERE ended.alert_id = alert_history.alert_id AND ended."number" <= alert_history."number"
            AND ended.status IN ('RESOLVED', 'DISABLED')) AS is_open
FROM alert_history
WHERE outbox_position > coalesce(
    (SELECT outbox_position FROM alert_delivery WHERE consumer = 'mqtt'), -1)
ORDER BY outbox_position, "number"
"""  # noqa: S608 - our own names
# The furthest record of each partition that changed a device lately, and the number of its latest change:
# readings that may come again after a loss are at most a day old.
TRACES = """
SELECT user_id, device_id, kafka_partition, max(kafka_offset) AS kafka_offset,
       -- a time ahead of its arrival counts as that
       max(least(time, recorded_at)) AS judged,
       max(number) AS number
FROM alert_history
WHERE recorded_at > now() - interval '1 day'
GROUP BY user_id, device_id, kafka_partition
"""


class StatesBeingRebuilt(NotNow):
    """The states are not rebuilt yet: another worker takes longer than expected, or Redis lost them again."""


class _Fence(NamedTuple):
    """The things a rebuild must still hold when it writes: the lock, and the server with the same memory."""

    token: bytes
    identity: bytes


def rebuild_states() -> str:
    """Returns the states' generation once they are rebuilt, by this call or by another worker's.

    Raises `StatesBeingRebuilt`, `psycopg.Error` and `redis.RedisError`; then nothing may be judged.
    """
    lock = client().lock(ALERTS_REBUILDING, timeout=LOCK_SECONDS, blocking=False, thread_local=False)
    if not lock.acquire():
        return _await_other()
    # Rebuilding the states of a large fleet takes longer than any message may.
    with _kept(lock), cpu_unlimited():
        return generation.current() or _rebuild(_begin(bytes(lock.local.token or b"")))


@contextmanager
def _kept(lock: Lock) -> Iterator[None]:
    """Renews the lock while the block runs, then releases it."""
    finished = threading.Event()
    renewer = threading.Thread(target=_renew, args=(lock, finished), name="rebuild-lock", daemon=True)
    renewer.start()
    try:
        yield
    finally:
        finished.set()
        renewer.join()
        try:
            lock.release()
        except (LockError, redis.RedisError) as error:
            log.warning("rebuild_lock_lost", error=str(error))


def _renew(lock: Lock, finished: threading.Event) -> None:
    while not finished.wait(LOCK_SECONDS / 4):
        try:
            lock.reacquire()
        except LockError:
            # The scripts refuse any further write.
            return
        except redis.RedisError as error:
            log.warning("rebuild_lock_not_renewed", error=str(error))


def _begin(token: bytes) -> _Fence:
    """Keeps others from committing, and waits until the outbox, unless it is old, is in the tables."""
    keys = [ALERTS_REBUILDING, ALERTS_READY, ALERTS_GENERATION, OUTBOX, OUTBOX_PUBLISHED, *stream.COUNTS]
    fence = _Fence(token, generation.beside(__file__, "begin_rebuild.lua")(keys=keys, args=[token]))
    _require(bool(fence.identity))
    # A master that was replaced, and has not noticed, may still have entries to write.
    with database.access() as connection:
        tables.claim(connection, text(fence.identity))
    deliver.await_written(SETTLE_SECONDS)
    return fence


def _rebuild(fence: _Fence) -> str:
    started = time.monotonic()
    rows: dict[tuple[str, str], list[ActiveAlert]] = {}
    with database.access() as connection, connection.transaction():
        # Between the rows and the history a worker may commit what Redis has lost. Read at two moments, an
        # alert would be over and its readings judged.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for row in connection.cursor(row_factory=class_row(ActiveAlert)).execute(ROWS):
            rows.setdefault((row.user_id, row.device_id), []).append(row)
        traces: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for trace in connection.cursor(row_factory=dict_row).execute(TRACES):
            traces.setdefault((trace["user_id"], trace["device_id"]), []).append(trace)
        untold = [_change(row) for row in connection.cursor(row_factory=dict_row).execute(UNTOLD)]
    devices = sorted(rows.keys() | traces.keys())
    # A state that is not in the tables is in order.
    old = list(client().scan_iter(match=alert_key("*", "*"), count=WRITE_AT_ONCE))
    for start in range(0, len(old), WRITE_AT_ONCE):
        _write(fence, {text(key): b"" for key in old[start : start + WRITE_AT_ONCE]})
    for start in range(0, len(devices), WRITE_AT_ONCE):
        some = devices[start : start + WRITE_AT_ONCE]
        _write(fence, {alert_key(*device): _state(*device, rows, traces) for device in some})
    counts = Counter(user for (user, _), own in rows.items() for row in own if row.counts)
    current = _finish(fence, untold, counts)
    seconds = round(time.monotonic() - started, 2)
    log.warning("states_rebuilt", devices=len(devices), told_again=len(untold), seconds=seconds)
    return current


def _write(fence: _Fence, states: Mapping[str, bytes]) -> None:
    keys = [ALERTS_REBUILDING, *states]
    _require(bool(generation.beside(__file__, "restore.lua")(keys=keys, args=[*fence, *states.values()])))


def _finish(fence: _Fence, untold: list[Change], open_alerts: Mapping[str, int]) -> str:
    entries = [
        entry
        for change in untold
        for entry in stream.entries(change.user_id, change.device_id, [change], [], [])
    ]
    # The change of some rules may be lost as well: before anything is judged, all are read again.
    rules_version.begin_again()
    keys = [ALERTS_REBUILDING, ALERTS_READY, ALERTS_GENERATION, OUTBOX, OPEN_ALERTS]
    counts = msgpack.packb([one for item in open_alerts.items() for one in item], use_bin_type=False)
    made: bytes = generation.beside(__file__, "finish_rebuild.lua")(
        keys=keys, args=[*fence, counts, *entries]
    )
    _require(bool(made))
    return text(made)


def _require(written: bool) -> None:
    if not written:
        raise StatesBeingRebuilt("another worker is rebuilding them, or Redis has lost its memory again")


def _change(row: dict[str, Any]) -> Change:
    partition, offset = row.pop("kafka_partition"), row.pop("kafka_offset")
    return Change(**row, position=None if partition is None else Position(partition, offset))


def _state(
    user_id: str,
    device_id: str,
    rows: dict[tuple[str, str], list[ActiveAlert]],
    traces: dict[tuple[str, str], list[dict[str, Any]]],
) -> bytes:
    own: Iterable[dict[str, Any]] = traces.get((user_id, device_id), [])
    return rebuild(
        user_id,
        device_id,
        rows.get((user_id, device_id), []),
        changed=[
            (Position(trace["kafka_partition"], trace["kafka_offset"]), trace["judged"])
            for trace in own
            if trace["kafka_partition"] is not None
        ],
        number=max((trace["number"] for trace in own), default=0),
    ).pack()


def _await_other() -> str:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (current := generation.current()):
        if time.monotonic() > deadline:
            raise StatesBeingRebuilt(f"the states were not rebuilt within {WAIT_SECONDS:.0f} s")
        time.sleep(0.1)
    return current
