"""The outbox: a Redis stream of what there is to tell about alerts, read by two groups, each in its order.

An entry is one device's: `changes` to tell, and `written` and `gone`, the rows of `active_alerts`. It stays
until both groups have delivered it, so its length is what is not delivered yet.
"""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, get_args

import structlog
from redis.exceptions import ResponseError

from tasks.alerts.change import Change
from tasks.errors import NotNow
from tasks.exclusive import Turn
from tasks.redis_client import OUTBOX, OUTBOX_REFUSED, client, text
from tasks.settings import settings

log = structlog.get_logger()

Group = Literal["mqtt", "database"]

# Who reads is settled by a turn (`tasks.exclusive`). With one name for all of them, what a dead worker had
# read is simply what the next one reads first.
READER = "worker"
READ_AT_ONCE = 200
REFUSED_KEPT = 10_000

StreamId = tuple[int, int]


class OutboxFull(NotNow):
    """More is undelivered than OUTBOX_MAX_ENTRIES: the MQTT broker or the database is away for long."""


class Entry(NamedTuple):
    """One entry: its id in the stream, and what it says."""

    id: str
    document: dict[str, Any]

    @property
    def position(self) -> int:
        """Its place in the stream as one number: milliseconds * 2^20 + number within the millisecond."""
        return _as_number(_stream_id(self.id))


class Undelivered(NotNow):
    """Only the first `count` entries were delivered."""

    def __init__(self, count: int, reason: str) -> None:
        super().__init__(reason)
        self.count = count


Deliver = Callable[[list[Entry], Turn], None]


def entry(
    user_id: str,
    device_id: str,
    changes: Iterable[Change],
    written: list[dict[str, Any]],
    gone: Iterable[str],
) -> bytes:
    """An entry as it stands in the stream."""
    document = {
        "user_id": user_id,
        "device_id": device_id,
        "changes": [
            {"record": change.to_record(), "notice": change.to_json().decode()} for change in changes
        ],
        "written": written,
        "gone": list(gone),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def last() -> StreamId | None:
    """The last entry, if any is not delivered to both groups yet. Raises `redis.RedisError`."""
    newest: Any = client().xrevrange(OUTBOX, count=1)
    return _stream_id(text(newest[0][0])) if newest else None


def has_delivered(group: Group, entry_id: StreamId) -> bool:
    """Whether the group has delivered this entry and all before it. Raises `redis.RedisError`."""
    first = _first_undelivered(group)
    return first is not None and first > entry_id


def delivered_position(group: Group) -> int | None:
    """The position up to which the group has delivered everything; none before its first delivery.

    Raises `redis.RedisError`.
    """
    first = _first_undelivered(group)
    return None if first is None else _as_number(first) - 1


def backlog() -> int:
    """How many entries are not delivered to both groups yet. Raises `redis.RedisError`."""
    return int(client().xlen(OUTBOX))


def oldest_seconds() -> float:
    """Age of the oldest entry that is not delivered to both groups yet; 0 if there is none.

    Raises `redis.RedisError`.
    """
    first: Any = client().xrange(OUTBOX, count=1)
    # The ids are Redis' own, and begin with its time in milliseconds.
    return max(0.0, time.time() - _stream_id(text(first[0][0]))[0] / 1000) if first else 0.0


def require_room() -> None:
    """Raises `OutboxFull` while so much is undelivered that nothing may be added, and `redis.RedisError`."""
    waiting = backlog()
    if waiting >= settings().outbox_max_entries:
        raise OutboxFull(f"{waiting} entries wait for delivery")


def drain(group: Group, turn: Turn, deliver: Deliver) -> None:
    """Delivers everything that the group has not had yet, in order, a few hundred entries at a time.

    What a dead worker had read and not acknowledged comes first. `deliver` returns when all its entries are
    delivered, or raises; of an `Undelivered` the first entries count. Raises what it raises, `TurnLost` and
    `redis.RedisError`.
    """
    try:
        for start in ("0", ">"):
            while batch := _read(group, start):
                turn.keep()
                _deliver(group, turn, deliver, batch)
    finally:
        _trim()


def refuse(group: Group, entry_id: str, reason: str, content: str) -> None:
    """Puts an entry that can never be delivered aside, where an operator finds it with its reason."""
    log.error("outbox_entry_refused", group=group, entry=entry_id, error=reason)
    fields: dict[Any, Any] = {"group": group, "id": entry_id, "error": reason, "entry": content}
    client().xadd(OUTBOX_REFUSED, fields, maxlen=REFUSED_KEPT)


def _deliver(group: Group, turn: Turn, deliver: Deliver, batch: list[tuple[str, str]]) -> None:
    entries: list[Entry] = []
    for entry_id, content in batch:
        try:
            entries.append(Entry(entry_id, _parse(content)))
        except ValueError as error:
            refuse(group, entry_id, str(error), content)
            _acknowledge(group, [entry_id])
    try:
        if entries:
            deliver(entries, turn)
    except Undelivered as undelivered:
        _acknowledge(group, [entry.id for entry in entries[: undelivered.count]])
        raise
    _acknowledge(group, [entry.id for entry in entries])


def _parse(content: str) -> dict[str, Any]:
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - a fault of the content, as if it were no JSON
    return document


def _read(group: Group, start: str) -> list[tuple[str, str]]:
    """The next entries: from `0` those that were read before and not acknowledged, from `>` new ones."""
    while found := _ask(group, start):
        if batch := [
            (text(entry_id), text(fields.get(b"entry", b""))) for entry_id, fields in found if fields
        ]:
            return batch
        # Read, never acknowledged, and no longer in the stream: there is nothing left to deliver.
        _acknowledge(group, [text(entry_id) for entry_id, _ in found])
    return []


def _ask(group: Group, start: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    try:
        reply: Any = client().xreadgroup(group, READER, {OUTBOX: start}, count=READ_AT_ONCE)
    except ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        _make_group(group)
        return _ask(group, start)
    streams = list(reply.values()) if isinstance(reply, dict) else [entries for _, entries in reply or ()]
    return [entry for entries in streams for entry in _flat(entries)]


def _flat(entries: Any) -> Any:
    # With RESP3 the client puts one more list around the entries of a stream.
    return entries[0] if entries and isinstance(entries[0], list) else entries


def _make_group(group: Group) -> None:
    try:
        client().xgroup_create(OUTBOX, group, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def _acknowledge(group: Group, ids: list[str]) -> None:
    if ids:
        client().xack(OUTBOX, group, *ids)


def _trim() -> None:
    """Drops what both groups have delivered."""
    firsts = [_first_undelivered(group) for group in get_args(Group)]
    if None not in firsts:
        first = min(first for first in firsts if first is not None)
        client().xtrim(OUTBOX, minid=f"{first[0]}-{first[1]}", approximate=False)


def _first_undelivered(group: Group) -> StreamId | None:
    """The least id that an undelivered entry can have; none before the group begins to read."""
    pipeline = client().pipeline(transaction=True)
    pipeline.xinfo_groups(OUTBOX)
    pipeline.xpending(OUTBOX, group)
    replies = pipeline.execute(raise_on_error=False)
    failures = [reply for reply in replies if isinstance(reply, Exception)]
    for failure in failures:
        if not str(failure).startswith(("NOGROUP", "no such key")):
            raise failure
    if failures:
        return None
    infos, pending = replies
    if pending["pending"]:
        return _stream_id(text(pending["min"]))
    read = next(info["last-delivered-id"] for info in infos if text(info["name"]) == group)
    return _next(_stream_id(text(read)))


def _stream_id(value: str) -> StreamId:
    milliseconds, _, sequence = value.partition("-")
    return int(milliseconds), int(sequence)


def _as_number(stream_id: StreamId) -> int:
    return (stream_id[0] << 20) + stream_id[1]


def _next(stream_id: StreamId) -> StreamId:
    return stream_id[0], stream_id[1] + 1
