"""The states of devices in Redis: many are read in one command, and changes are written all or none.

Redis may lose them, or come back with old ones. Their generation is stored with them; if it is missing, or is
not that of the server's present memory, they are rebuilt from the tables before anything is judged.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgpack
import structlog

from tasks.alerts import unknown
from tasks.alerts.alert_room import Rooms
from tasks.alerts.rebuild import rebuild_states
from tasks.errors import NotNow
from tasks.observe.metrics import worker as metrics
from tasks.outbox import stream
from tasks.rules.active_alerts import row_changes
from tasks.rules.change import Change
from tasks.rules.state import DeviceState, UnknownState
from tasks.servers import generation
from tasks.servers.redis_client import (
    ALERTS_GENERATION,
    ALERTS_READY,
    OPEN_ALERTS,
    OUTBOX,
    RULES_VERSION,
    alert_key,
    client,
    text,
)

log = structlog.get_logger()

ATTEMPTS = 8
READ_AT_ONCE = 1000
# Return values of `commit.lua`.
RULES_REPLACED, NO_ROOM = -2, -3

Decide = Callable[[DeviceState], tuple[DeviceState, tuple[Change, ...]]]
Device = TypeVar("Device", bound=tuple[str, str])


class StatesContended(NotNow):
    """Other writers committed first, again and again. Nothing was written; a later try may pass."""


class RulesReplaced(NotNow):
    """Other rules came into force after the decision's rules were read. Nothing was written."""


class Committed(NamedTuple):
    """The changes to deliver, and the generation of the states that they were decided on."""

    changes: list[Change]
    generation: str


class Update(NamedTuple):
    """One device's state before and after, with the bytes that Redis had for it."""

    stored: bytes
    before: DeviceState
    after: DeviceState
    changes: tuple[Change, ...]
    opened: int  # how many more of its alerts are open


def transact(
    devices: Sequence[tuple[str, str]],
    decide: Decide,
    rules_version: bytes = b"",
    rooms: Rooms | None = None,
) -> list[Change]:
    """The changes that `commit` makes. Raises like it."""
    return commit(devices, decide, rules_version, rooms).changes


def commit(
    devices: Sequence[Device],
    decide: Decide,
    rules_version: bytes = b"",
    rooms: Rooms | None = None,
    passes: Callable[[Device], bool] | None = None,
) -> Committed:
    """Reads the devices' states, calls `decide` for each, and commits the changed ones with outbox entries.

    Of a device without a state `passes` is asked first: if it is true, there is nothing to decide.

    When another writer commits first, everything is read and decided again. With a `rules_version`, nothing
    is committed once the rules have another one. With `rooms`, which the decision uses, no user gets more
    open alerts than OPEN_ALERTS_PER_USER; without, they are only counted. Raises `RulesReplaced`,
    `StatesContended`, `redis.RedisError`, and `NotNow` or `psycopg.Error` when lost states cannot be rebuilt.
    """
    for attempt in range(ATTEMPTS):
        current = _ensure_there()
        if rooms is not None:
            rooms.begin(user_id for user_id, _ in devices)
        try:
            loaded = _load(devices)
        except UnknownState as error:
            unknown.forget(error, current)
            continue
        updates = _decide(loaded, decide, rooms, passes)
        said = _commit(updates, current, rules_version, rooms) if updates else 1
        if said == 1:
            changes = [change for update in updates for change in update.changes]
            for status, count in Counter(change.status for change in changes).items():
                metrics.ALERT_CHANGES.add(count, status)
            return Committed(changes, current)
        if said == NO_ROOM and rooms is not None:
            rooms.limit()
            continue
        log.info("states_contended", devices=len(updates), attempt=attempt + 1)
        time.sleep(0.005 * 2**attempt)
    raise StatesContended(f"{len(devices)} devices, {ATTEMPTS} attempts")


def by_present_rules(once: Callable[[], int]) -> int:
    """The result of `once`, which reads the rules and commits; repeated when the rules were replaced.

    Raises what `once` raises, `RulesReplaced` after many times in a row.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return once()
        except RulesReplaced:
            log.info("rules_replaced")
    return once()


def load_all() -> Iterator[tuple[str, str]]:
    """User and device of every device that has a state. Raises `redis.RedisError`, and like `rebuild`."""
    _ensure_there()
    prefix = len(alert_key("", "")) - 1
    for key in client().scan_iter(match=alert_key("*", "*"), count=READ_AT_ONCE):
        user_id, device_id = text(key)[prefix:].split("/", 1)
        yield user_id, device_id


def _load(devices: Sequence[Device]) -> list[tuple[Device, bytes, DeviceState | None]]:
    """Each device with the bytes that Redis has for it, and its state, if it has one."""
    loaded: list[tuple[Device, bytes, DeviceState | None]] = []
    for start in range(0, len(devices), READ_AT_ONCE):
        some = devices[start : start + READ_AT_ONCE]
        values = client().mget([alert_key(user_id, device_id) for user_id, device_id in some])
        for device, value in zip(some, values, strict=True):
            if isinstance(value, bytes) and value:
                loaded.append((device, value, DeviceState.unpack(device[0], device[1], value)))
            else:
                loaded.append((device, b"", None))
    return loaded


def _decide(
    loaded: Iterable[tuple[Device, bytes, DeviceState | None]],
    decide: Decide,
    rooms: Rooms | None,
    passes: Callable[[Device], bool] | None,
) -> list[Update]:
    updates = []
    for device, stored, found in loaded:
        if found is None and passes is not None and passes(device):
            continue
        before = found or DeviceState.unpack(device[0], device[1], b"")
        after, changes = decide(before)
        if after is not before:
            opened = after.open_alerts - before.open_alerts if rooms is None else rooms.take(before, after)
            updates.append(Update(stored, before, after, changes, opened))
    return updates


def _ensure_there() -> str:
    # If they are lost after this check, the commit finds out, or the batch's report if nothing changed.
    return generation.current() or rebuild_states()


def _commit(updates: list[Update], current: str, rules_version: bytes, rooms: Rooms | None) -> int:
    keys: list[str] = [ALERTS_READY, ALERTS_GENERATION, RULES_VERSION, OUTBOX, OPEN_ALERTS]
    opened: Counter[str] = Counter()
    for update in updates:
        opened[update.after.user_id] += update.opened
    most = 0 if rooms is None else rooms.most
    counts = msgpack.packb([one for item in opened.items() if item[1] for one in item], use_bin_type=False)
    arguments: list[bytes] = [current.encode(), rules_version, str(most).encode(), counts]
    for update in updates:
        keys.append(alert_key(update.after.user_id, update.after.device_id))
        arguments += [update.stored, update.after.pack(), _outbox_entries(update)]
    said = int(generation.beside(__file__, "commit.lua")(keys=keys, args=arguments))
    if said == RULES_REPLACED:
        raise RulesReplaced("the rules were replaced while they were being applied")
    return said


def _outbox_entries(update: Update) -> bytes:
    written, gone = row_changes(update.before, update.after)
    if not (update.changes or written or gone):
        return b""
    after = update.after
    return stream.pack(
        after.user_id, after.device_id, update.changes, [row.to_record() for row in written], gone
    )
