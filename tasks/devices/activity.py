"""The activity of devices in a part of a batch: how many readings each sent, and when. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import msgpack

from tasks.rows.validate import Received
from tasks.rules.state import to_us

DAY_MS = 86_400_000


class Activity(NamedTuple):
    """The readings of one device that arrived on one day (since 1970, UTC)."""

    user_id: str
    device_id: str
    day: int
    messages: int
    first_ms: int
    last_ms: int
    newest_us: int  # the newest of the readings' own times
    skew_ms: int  # own time less arrival, of the last reading


class _Seen:
    """The readings of one device and day while they are gone through."""

    __slots__ = ("count", "first_ms", "last", "last_ms", "newest")

    def __init__(self, at_ms: int, time: datetime) -> None:
        self.count, self.first_ms, self.last_ms, self.newest, self.last = 1, at_ms, at_ms, time, time


def pack(domain: str, readings: Iterable[Received]) -> bytes:
    """The activity of a domain's devices by these readings; empty if there are none."""
    found: dict[tuple[str, str, int], _Seen] = {}
    for message, reading in readings:
        at_ms, time = message.timestamp_ms, reading.time
        key = (*reading.source, at_ms // DAY_MS)
        seen = found.get(key)
        if seen is None:
            found[key] = _Seen(at_ms, time)
            continue
        seen.count += 1
        seen.last_ms = at_ms
        seen.last = time
        if time > seen.newest:  # noqa: PLR1730 - `max` costs more, and this is done for each message
            seen.newest = time
    if not found:
        return b""
    return bytes(msgpack.packb([domain, [(*key, *_fields(one)) for key, one in found.items()]]))


def _fields(one: _Seen) -> tuple[int, ...]:
    newest_us = to_us(one.newest)
    last_us = newest_us if one.last is one.newest else to_us(one.last)
    return one.count, one.first_ms, one.last_ms, newest_us, last_us // 1000 - one.last_ms


def unpack(blob: bytes) -> tuple[str, list[Activity]]:
    """The domain and its devices' activity: the inverse of `pack`."""
    domain, packed = msgpack.unpackb(blob, use_list=False)
    return domain, [Activity._make(fields) for fields in packed]


def merged(parts: Iterable[Activity]) -> list[Activity]:
    """One for each device and day: the counts added, the skew of the last reading."""
    found: dict[tuple[str, str, int], Activity] = {}
    for one in parts:
        key = one[:3]
        old = found.get(key)
        found[key] = one if old is None else _both(old, one)
    return list(found.values())


def _both(one: Activity, other: Activity) -> Activity:
    last = other if other.last_ms >= one.last_ms else one
    return Activity(
        *one[:3],
        one.messages + other.messages,
        min(one.first_ms, other.first_ms),
        last.last_ms,
        max(one.newest_us, other.newest_us),
        last.skew_ms,
    )
