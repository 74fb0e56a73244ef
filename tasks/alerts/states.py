"""The states of devices in Redis: read many in one command, write what changed all at once or not at all.

Redis may lose them, or come back with old ones. A marker stands beside them; where it is missing, or of
another run of the server, they are rebuilt from the tables before anything is judged.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import structlog
from redis.commands.core import Script

from tasks import metrics, outbox
from tasks.alerts.active import row_changes
from tasks.alerts.change import Change
from tasks.alerts.rebuild import are_there, rebuild_states
from tasks.alerts.state import DeviceState
from tasks.errors import NotNow
from tasks.redis_client import ALERTS_READY, OUTBOX, alert_key, client, server_run, text

log = structlog.get_logger()

ATTEMPTS = 8
READ_AT_ONCE = 1000

Decide = Callable[[DeviceState], tuple[DeviceState, tuple[Change, ...]]]


class StatesContended(NotNow):
    """Other writers were there first, again and again. Nothing was written; it is tried again later."""


class Update(NamedTuple):
    """One device's state before and after, with the bytes that Redis had for it."""

    stored: bytes
    before: DeviceState
    after: DeviceState
    changes: tuple[Change, ...]


def transact(devices: Sequence[tuple[str, str]], decide: Decide) -> list[Change]:
    """Reads the devices' states, decides each, and commits the changed ones with what there is to tell.

    When another writer was there first, everything is read and decided again. Raises `StatesContended`,
    `redis.RedisError`, and `NotNow` or `psycopg.Error` when lost states cannot be rebuilt.
    """
    for attempt in range(ATTEMPTS):
        loaded = _load(devices)
        updates = [
            Update(stored, before, after, changes)
            for stored, before in loaded
            for after, changes in [decide(before)]
            if after is not before
        ]
        if not updates or _commit(updates):
            changes = [change for update in updates for change in update.changes]
            for status, count in Counter(change.status for change in changes).items():
                metrics.ALERT_CHANGES.add(count, status)
            return changes
        log.info("states_contended", devices=len(updates), attempt=attempt + 1)
        time.sleep(0.005 * 2**attempt)
    raise StatesContended(f"{len(devices)} devices, {ATTEMPTS} attempts")


def load_all() -> Iterator[tuple[str, str]]:
    """User and device of every device that has a state. Raises like `transact`."""
    _ensure_there()
    prefix = len(alert_key("", "")) - 1
    for key in client().scan_iter(match=alert_key("*", "*"), count=READ_AT_ONCE):
        user_id, device_id = text(key)[prefix:].split("/", 1)
        yield user_id, device_id


def _load(devices: Sequence[tuple[str, str]]) -> list[tuple[bytes, DeviceState]]:
    _ensure_there()
    loaded = []
    for start in range(0, len(devices), READ_AT_ONCE):
        some = devices[start : start + READ_AT_ONCE]
        values = client().mget([alert_key(user_id, device_id) for user_id, device_id in some])
        for (user_id, device_id), value in zip(some, values, strict=True):
            stored = value if isinstance(value, bytes) else b""
            loaded.append((stored, DeviceState.unpack(user_id, device_id, stored)))
    return loaded


def _ensure_there() -> None:
    # Lost between this look and the commit, they are missed by the commit.
    if not are_there():
        rebuild_states()


def _commit(updates: list[Update]) -> bool:
    keys: list[str] = [ALERTS_READY, OUTBOX]
    arguments: list[bytes] = [server_run()]
    for update in updates:
        keys.append(alert_key(update.after.user_id, update.after.device_id))
        arguments += [update.stored, update.after.pack(), _outbox_entry(update)]
    return int(_script()(keys=keys, args=arguments)) == 1


def _outbox_entry(update: Update) -> bytes:
    written, gone = row_changes(update.before, update.after)
    if not (update.changes or written or gone):
        return b""
    after = update.after
    return outbox.entry(
        after.user_id, after.device_id, update.changes, [row.to_record() for row in written], gone
    )


@lru_cache
def _script() -> Script:
    return client().register_script(Path(__file__).with_name("commit.lua").read_text())
