"""Bringing lost states back from Postgres: the rows of `active_alerts`, and the latest of `alert_history`.

What users were not told yet goes into the outbox again; some of it they may have heard before, under the same
`alert_id` and status.
"""

import time
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import structlog
from psycopg.rows import class_row, dict_row
from redis.client import Pipeline
from redis.exceptions import WatchError

from tasks import database, notify, outbox
from tasks.alerts.active import ActiveAlert, rebuild
from tasks.alerts.change import Change
from tasks.alerts.state import Position
from tasks.app import app
from tasks.errors import NotNow
from tasks.redis_client import (
    ALERTS_READY,
    ALERTS_REBUILDING,
    OUTBOX,
    OUTBOX_TOLD,
    alert_key,
    client,
    server_run,
)

log = structlog.get_logger()

LOCK_SECONDS = 60
SETTLE_SECONDS = 20.0
WAIT_SECONDS = 15.0
WRITE_AT_ONCE = 1000

_COLUMNS = ", ".join(f'"{field.name}"' for field in fields(ActiveAlert))
_CHANGE = [field.name for field in fields(Change) if field.name != "position"]
_CHANGE_COLUMNS = ", ".join(f'"{name}"' for name in (*_CHANGE, "kafka_partition", "kafka_offset"))

ROWS = f"SELECT {_COLUMNS} FROM active_alerts ORDER BY user_id, device_id"  # noqa: S608 - our own names
UNTOLD = f"""
SELECT {_CHANGE_COLUMNS} FROM alert_history
WHERE outbox_position > coalesce(
    (SELECT outbox_position FROM alert_delivery WHERE consumer = 'mqtt'), -1)
ORDER BY outbox_position, "number"
"""  # noqa: S608 - our own names
# The furthest record of each partition that changed a device lately, and the number of its latest change:
# readings that may come again after a loss are at most a day old.
TRACES = """
SELECT user_id, device_id, kafka_partition, max(kafka_offset) AS kafka_offset,
       -- a time ahead of its arrival counts as that
       max(least(time, recorded_at)) FILTER (WHERE kafka_partition IS NOT NULL) AS judged,
       max(number) AS number
FROM alert_history
WHERE recorded_at > now() - interval '1 day'
GROUP BY user_id, device_id, kafka_partition
"""


class StatesBeingRebuilt(NotNow):
    """The states are not there yet: another worker needs longer than expected, or Redis was flushed again."""


def are_there() -> bool:
    """Whether Redis has the states, and is the run of the server that they were written to."""
    marker = client().get(ALERTS_READY)
    return marker is not None and marker == server_run()


def rebuild_states() -> None:
    """Returns when the states are there: rebuilt by this call or by another worker's.

    Raises `StatesBeingRebuilt`, `psycopg.Error` and `redis.RedisError`; then nothing may be judged.
    """
    if not client().set(ALERTS_REBUILDING, 1, nx=True, ex=LOCK_SECONDS):
        _await_other()
        return
    try:
        with client().pipeline(transaction=True) as transaction:
            transaction.watch(ALERTS_REBUILDING)  # type: ignore[no-untyped-call]
            if not are_there():
                _settle_or_forget()
                _rebuild(transaction)
    finally:
        client().delete(ALERTS_REBUILDING)


@app.task(name="tasks.alerts.rebuild", throws=(NotNow,))
def rebuild_all() -> None:
    """Drops the states and restores them from the tables. Raises `NotNow`, `redis.RedisError`."""
    # From here on nobody commits a change, and whoever wants to comes here first.
    client().delete(ALERTS_READY)
    rebuild_states()


def _settle_or_forget() -> None:
    """Gets what is in the outbox into the tables, where it is not of long ago."""
    if client().exists(ALERTS_READY):
        # A server that was restarted has loaded an old copy of its memory.
        client().unlink(OUTBOX, OUTBOX_TOLD)
    else:
        notify.settle(SETTLE_SECONDS)


def _rebuild(transaction: Pipeline) -> None:
    started = time.monotonic()
    rows: dict[tuple[str, str], list[ActiveAlert]] = {}
    with database.access() as connection, connection.transaction():
        for row in connection.cursor(row_factory=class_row(ActiveAlert)).execute(ROWS):
            rows.setdefault((row.user_id, row.device_id), []).append(row)
        traces: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for trace in connection.cursor(row_factory=dict_row).execute(TRACES):
            traces.setdefault((trace["user_id"], trace["device_id"]), []).append(trace)
        untold = [_change(row) for row in connection.cursor(row_factory=dict_row).execute(UNTOLD)]
    _forget()
    devices = rows.keys() | traces.keys()
    pipeline = client().pipeline(transaction=False)
    for count, (user_id, device_id) in enumerate(sorted(devices), 1):
        packed = _state(user_id, device_id, rows, traces)
        pipeline.set(alert_key(user_id, device_id), packed)
        if count % WRITE_AT_ONCE == 0:
            pipeline.execute()
    pipeline.execute()
    # What is still in the outbox is told from there.
    _finish(transaction, [] if outbox.backlog() else untold)
    seconds = round(time.monotonic() - started, 2)
    log.warning("states_rebuilt", devices=len(devices), told_again=len(untold), seconds=seconds)


def _finish(transaction: Pipeline, untold: list[Change]) -> None:
    """Marks the states as there, unless Redis has lost its memory once more since the rebuilding began."""
    transaction.multi()
    for change in untold:
        content = outbox.entry(change.user_id, change.device_id, [change], [], [])
        transaction.xadd(OUTBOX, {"entry": content})
    transaction.set(ALERTS_READY, server_run())
    try:
        transaction.execute()
    except WatchError as error:
        raise StatesBeingRebuilt("Redis lost its memory while they were rebuilt") from error


def _forget() -> None:
    """What is not in the tables is in order."""
    old = list(client().scan_iter(match=alert_key("*", "*"), count=WRITE_AT_ONCE))
    for start in range(0, len(old), WRITE_AT_ONCE):
        client().unlink(*old[start : start + WRITE_AT_ONCE])


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
        positions=[
            Position(trace["kafka_partition"], trace["kafka_offset"])
            for trace in own
            if trace["kafka_partition"] is not None
        ],
        judged=max((trace["judged"] for trace in own if trace["judged"] is not None), default=None),
        number=max((trace["number"] for trace in own), default=0),
    ).pack()


def _await_other() -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not are_there():
        if time.monotonic() > deadline:
            raise StatesBeingRebuilt(f"the states were not there within {WAIT_SECONDS:.0f} s")
        time.sleep(0.1)
