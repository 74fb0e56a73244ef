"""The outbox: a Redis stream of changes of alerts, read by two groups.

Its entries are those of `tasks.outbox.entry`. An entry stays until both groups have delivered it. A group
delivers each user's entries in order, and takes the users in turn, so that a user with many entries, or with
an entry that cannot be delivered now, does not hold up the others.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import structlog
from redis.commands.core import Script
from redis.exceptions import ResponseError

from tasks.errors import NotNow
from tasks.outbox import failing
from tasks.outbox.entry import Entry, StreamId, as_number, entries, pack, parse, parse_id
from tasks.servers import generation
from tasks.servers.redis_client import (
    ALERTS_GENERATION,
    ALERTS_READY,
    OUTBOX,
    OUTBOX_ADDED,
    OUTBOX_BYTES,
    OUTBOX_FAILING,
    OUTBOX_NOTICES,
    OUTBOX_REFUSED,
    OUTBOX_WRITTEN,
    client,
    text,
)
from tasks.servers.turns import Turn
from tasks.settings import settings

log = structlog.get_logger()

__all__ = ["Entry", "entries", "pack"]

Group = Literal["mqtt", "database"]

# A turn (`tasks.servers.turns`) decides which worker reads. All have one name, so the next one first reads
# what a dead worker had read.
READER = "worker"
READ_AT_ONCE = 200
READ_BYTES = 1_048_576
# How much of one user is delivered before the others have their turn.
USER_BYTES = 1_048_576
REFUSED_KEPT = 10_000
COUNTS = (OUTBOX_BYTES, OUTBOX_ADDED, OUTBOX_WRITTEN, OUTBOX_FAILING, OUTBOX_NOTICES)


class OutboxFull(NotNow):
    """More is undelivered than OUTBOX_MAX_ENTRIES or OUTBOX_MAX_BYTES: the broker or the database is away."""


Deliver = Callable[[list[Entry], Turn], list[Entry]]
"""Delivers entries in order, and returns those that were delivered. Raises `Undelivered`."""


class LostOutbox(NotNow):
    """Redis has another memory than the outbox was written in; the rebuild of the states drops it."""


class Superseded(LostOutbox):
    """The states have been rebuilt in another memory of Redis, while this one still counted as current."""


class Undelivered(NotNow):
    """Only these entries were delivered; the server failed before the rest."""

    def __init__(self, delivered: list[Entry], reason: str) -> None:
        super().__init__(reason)
        self.delivered = delivered


def last() -> StreamId | None:
    """The last entry not delivered to both groups yet, if there is one. Raises `redis.RedisError`."""
    newest: Any = client().xrevrange(OUTBOX, count=1)
    return parse_id(text(newest[0][0])) if newest else None


def has_delivered(group: Group, entry_id: StreamId) -> bool:
    """Whether the group has delivered this entry and all before it. Raises `redis.RedisError`."""
    first = _first_undelivered(group)
    return first is not None and first > entry_id


def delivered_position(group: Group) -> int | None:
    """The position up to which the group has delivered everything; None before its first delivery.

    Raises `redis.RedisError`.
    """
    first = _first_undelivered(group)
    return None if first is None else as_number(first) - 1


def backlog() -> int:
    """How many entries are not delivered to both groups yet. Raises `redis.RedisError`."""
    return int(client().xlen(OUTBOX))


def oldest_seconds() -> float:
    """Age of the oldest entry that is not delivered to both groups yet; 0 if there is none.

    Raises `redis.RedisError`.
    """
    first: Any = client().xrange(OUTBOX, count=1)
    # The ids are Redis' own, and begin with its time in milliseconds.
    return max(0.0, time.time() - parse_id(text(first[0][0]))[0] / 1000) if first else 0.0


def require_room() -> None:
    """Raises `OutboxFull` while too much is undelivered to add anything, and `redis.RedisError`."""
    waiting, size = backlog(), backlog_bytes()
    if waiting >= settings().outbox_max_entries or size >= settings().outbox_max_bytes:
        raise OutboxFull(f"{waiting} entries of {size} bytes wait for delivery")


def backlog_bytes() -> int:
    """How many bytes are not delivered to both groups yet. Raises `redis.RedisError`."""
    return int(client().hget(OUTBOX_BYTES, "") or 0)


def users_at_bound(users: Collection[str]) -> frozenset[str]:
    """The users among these with so much undelivered that no more of their readings may be judged now.

    They have `OUTBOX_MAX_USER_BYTES`, or a change that the database does not take. It costs two commands.
    Raises `redis.RedisError`.
    """
    names = list(users)
    if not names:
        return frozenset()
    sizes = client().hmget(OUTBOX_BYTES, names)
    most = settings().outbox_max_user_bytes
    full = {name for name, size in zip(names, sizes, strict=True) if int(size or 0) >= most}
    return frozenset(full | failing.among(names))


def awaited(users: Collection[str]) -> dict[str, int]:
    """The users among these with entries that are not in the tables yet, for `are_written`.

    Raises `redis.RedisError`.
    """
    names = list(users)
    if not names:
        return {}
    return {
        name: added for name, (added, written) in zip(names, _counts(names), strict=True) if added > written
    }


def are_written(wanted: Mapping[str, int]) -> bool:
    """Whether all entries that the users had at the call of `awaited` are in the tables now.

    Raises `redis.RedisError`.
    """
    counts = _counts(list(wanted)) if wanted else []
    return all(
        written >= min(before, added)
        for before, (added, written) in zip(wanted.values(), counts, strict=True)
    )


def drain(group: Group, turn: Turn, deliver: Deliver) -> None:
    """Delivers the entries that the group has not delivered yet, each user's in order, the users in turn.

    Entries that a dead worker had read and not acknowledged come first. An entry that `deliver` does not
    deliver stays, and with it the same user's later ones. Raises what `deliver` raises, `TurnLost` and
    `redis.RedisError`.
    """
    held: set[str] = set()
    try:
        while _pass(group, turn, deliver, held):
            pass
    finally:
        _acknowledge(group, [])


def _pass(group: Group, turn: Turn, deliver: Deliver, held: set[str]) -> bool:
    """Goes through all waiting entries once; returns whether some were skipped for other users."""
    passed_over: set[str] = set()
    delivered: Counter[str] = Counter()
    turn.memory = _memory()
    for batch in _batches(group):
        turn.keep()
        # Again, for what was read: Redis may have failed over meanwhile.
        if _memory() != turn.memory:
            raise LostOutbox("Redis has failed over")
        chosen: list[Entry] = []
        for entry in batch:
            if entry.user in held:
                continue
            if delivered[entry.user] >= USER_BYTES:
                passed_over.add(entry.user)
                continue
            delivered[entry.user] += entry.size
            chosen.append(entry)
        held |= _deliver(group, turn, deliver, chosen)
    return bool(passed_over - held)


def _memory() -> str:
    """The memory that the outbox is in. Raises `LostOutbox` for an old one: it would overwrite newer rows."""
    memory = generation.identity()
    if not memory:
        raise LostOutbox("Redis has an old copy of its memory, and the outbox is as old")
    return memory


def forget(memory: str) -> None:
    """Drops the outbox, and the states with it, if Redis still has this memory: they are rebuilt.

    Raises `redis.RedisError`.
    """
    keys = [ALERTS_READY, ALERTS_GENERATION, OUTBOX, *COUNTS]
    generation.beside(__file__, "forget.lua")(keys=keys, args=[memory])


def _deliver(group: Group, turn: Turn, deliver: Deliver, entries: list[Entry]) -> set[str]:
    """Delivers the entries; returns the users of undelivered ones."""
    if not entries:
        return set()
    try:
        delivered = deliver(entries, turn)
    except Undelivered as undelivered:
        _acknowledge(group, [entry.id for entry in undelivered.delivered])
        raise
    ids = {entry.id for entry in delivered}
    _acknowledge(group, [entry.id for entry in entries if entry.id in ids])
    return {entry.user for entry in entries if entry.id not in ids}


def _batches(group: Group) -> Iterator[list[Entry]]:
    """All waiting entries, in order, in lists of limited bytes and number."""
    batch: list[Entry] = []
    size = 0
    for entry in _waiting(group):
        batch.append(entry)
        size += entry.size
        if size >= READ_BYTES or len(batch) >= READ_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _waiting(group: Group) -> Iterator[Entry]:
    """All entries that were read and not acknowledged, from the oldest, then all new ones."""
    start, count = "0", 1
    while True:
        found = _ask(group, start, count)
        if not found:
            if start == ">":
                return
            start = ">"
            continue
        # Read, never acknowledged, and no longer in the stream: there is nothing left to deliver.
        if gone := [text(entry_id) for entry_id, fields in found if not fields]:
            _acknowledge(group, gone)
        contents = [(text(entry_id), fields.get(b"entry", b"")) for entry_id, fields in found if fields]
        # As many as may be expected to fit the bytes: an entry of an older version may be large.
        largest = max((len(content) for _, content in contents), default=1)
        count = max(1, min(2 * count, READ_AT_ONCE, READ_BYTES // max(1, largest)))
        if start != ">":
            start = text(found[-1][0])
        for entry_id, content in contents:
            try:
                entry = parse(entry_id, content)
            except ValueError as error:
                refuse(group, entry_id, str(error), content.decode(errors="replace"))
                _acknowledge(group, [entry_id])
            else:
                yield entry


def refuse(group: Group, entry_id: str, reason: str, content: str) -> None:
    """Sets an entry that can never be delivered aside, where an operator finds it with the reason."""
    log.error("outbox_entry_refused", group=group, entry=entry_id, error=reason)
    fields: dict[Any, Any] = {"group": group, "id": entry_id, "error": reason, "entry": content}
    client().xadd(OUTBOX_REFUSED, fields, maxlen=REFUSED_KEPT)


def _ask(group: Group, start: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
    try:
        reply: Any = client().xreadgroup(group, READER, {OUTBOX: start}, count=count)
    except ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        _make_group(group)
        return _ask(group, start, count)
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
    (other,) = set(get_args(Group)) - {group}
    keys = [OUTBOX, *COUNTS]
    for start in range(0, max(1, len(ids)), READ_AT_ONCE):
        some = ids[start : start + READ_AT_ONCE]
        _script()(keys=keys, args=[group, other, int(group == "database"), *some])


@lru_cache
def _script() -> Script:
    return client().register_script(Path(__file__).with_name("acknowledge.lua").read_text())


def _counts(names: list[str]) -> list[tuple[int, int]]:
    """How many entries of each user were added, and how many written to the tables."""
    pipeline = client().pipeline(transaction=True)
    pipeline.hmget(OUTBOX_ADDED, names)
    pipeline.hmget(OUTBOX_WRITTEN, names)
    added, written = pipeline.execute()
    return [(int(one or 0), int(other or 0)) for one, other in zip(added, written, strict=True)]


def _first_undelivered(group: Group) -> StreamId | None:
    """The least id that an undelivered entry can have; None before the group begins to read."""
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
        return parse_id(text(pending["min"]))
    read = next(info["last-delivered-id"] for info in infos if text(info["name"]) == group)
    return _next(parse_id(text(read)))


def _next(stream_id: StreamId) -> StreamId:
    return stream_id[0], stream_id[1] + 1
