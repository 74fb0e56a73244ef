"""Bringing lost states back from Postgres: the rows of `active_alerts`, and the latest of `alert_history`."""

import time
from collections.abc import Iterable
from typing import Any

import structlog
from psycopg.rows import class_row, dict_row

from tasks import database
from tasks.alerts.active import ActiveAlert, rebuild
from tasks.alerts.state import Position
from tasks.errors import NotNow
from tasks.redis_client import ALERTS_READY, ALERTS_REBUILDING, alert_key, client

log = structlog.get_logger()

LOCK_SECONDS = 60
WAIT_SECONDS = 15.0
WRITE_AT_ONCE = 1000

ROWS = "SELECT {columns} FROM active_alerts ORDER BY user_id, device_id"
# The furthest record of each partition that changed a device lately, and the number of its latest change:
# readings that may come again after a loss are at most a day old.
TRACES = """
SELECT user_id, device_id, kafka_partition, max(kafka_offset) AS kafka_offset,
       max(time) FILTER (WHERE kafka_partition IS NOT NULL) AS judged, max(number) AS number
FROM alert_history
WHERE recorded_at > now() - interval '1 day'
GROUP BY user_id, device_id, kafka_partition
"""


class StatesBeingRebuilt(NotNow):
    """Another worker rebuilds the states and needs longer than expected."""


def rebuild_states() -> None:
    """Returns when the states are there: rebuilt by this call or by another worker's.

    Raises `StatesBeingRebuilt`, `psycopg.Error` and `redis.RedisError`; then nothing may be judged.
    """
    if not client().set(ALERTS_REBUILDING, 1, nx=True, ex=LOCK_SECONDS):
        _await_other()
        return
    try:
        if not client().exists(ALERTS_READY):
            _rebuild()
    finally:
        client().delete(ALERTS_REBUILDING)


def _rebuild() -> None:
    started = time.monotonic()
    columns = ", ".join(ActiveAlert.__dataclass_fields__)
    rows: dict[tuple[str, str], list[ActiveAlert]] = {}
    with database.access() as connection, connection.transaction():
        for row in connection.cursor(row_factory=class_row(ActiveAlert)).execute(
            ROWS.format(columns=columns)
        ):
            rows.setdefault((row.user_id, row.device_id), []).append(row)
        traces: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for trace in connection.cursor(row_factory=dict_row).execute(TRACES):
            traces.setdefault((trace["user_id"], trace["device_id"]), []).append(trace)
    devices = rows.keys() | traces.keys()
    pipeline = client().pipeline(transaction=False)
    for count, (user_id, device_id) in enumerate(sorted(devices), 1):
        packed = _state(user_id, device_id, rows, traces)
        # What is there already is newer than the tables.
        pipeline.set(alert_key(user_id, device_id), packed, nx=True)
        if count % WRITE_AT_ONCE == 0:
            pipeline.execute()
    pipeline.set(ALERTS_READY, 1)
    pipeline.execute()
    log.warning("states_rebuilt", devices=len(devices), seconds=round(time.monotonic() - started, 2))


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
    while not client().exists(ALERTS_READY):
        if time.monotonic() > deadline:
            raise StatesBeingRebuilt(f"the states were not there within {WAIT_SECONDS:.0f} s")
        time.sleep(0.1)
