"""The activity of devices in a part of a batch: how many readings each sent, and when. Pure.

`process` packs it for each part, in columns because that costs least there.
"""

from collections import defaultdict
from collections.abc import Container, Iterable
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple

import msgpack

from tasks.domain.domain import Source
from tasks.rows.validate import Received
from tasks.rules.state import EPOCH

DAY_MS = 86_400_000
# Up to the end of the year 9999. A producer that is not the gateway can give its records any time.
MOST_MS = 253_402_300_799_999
MILLISECOND = timedelta(milliseconds=1)
# No id holds a control character.
SEPARATOR = "\0"

BySource = dict[Source, list[Received]]


class Activity(NamedTuple):
    """The readings of one device that arrived on one day (since 1970, UTC)."""

    user_id: str
    device_id: str
    day: int
    messages: int
    first_ms: int
    last_ms: int
    time: datetime  # the own time of the reading that came last

    @property
    def skew_ms(self) -> int:
        """Own time less arrival, of the reading that came last."""
        return (self.time - EPOCH) // MILLISECOND - self.last_ms


class _Columns(NamedTuple):
    """The ids of some devices, user and device in turn, and an item of each list for each device."""

    ids: str
    counts: list[int]  # empty if each sent one reading, and then `first_ms` too
    first_ms: list[int]
    last_ms: list[int]
    times: list[datetime]


def pack(domain: str, by_source: BySource) -> bytes:
    """The activity of a domain's devices by their readings in Kafka order; empty if there are none."""
    if not by_source:
        return b""
    packed = [_columns(by_source)]
    if any(
        first // DAY_MS != last // DAY_MS
        for first, last in zip(packed[0].first_ms, packed[0].last_ms, strict=False)
    ):
        packed = [_columns(of_day) for of_day in _by_day(by_source)]
    return bytes(msgpack.packb([domain, *packed], datetime=True))


def _columns(by_source: BySource) -> _Columns:
    # If each message is of another device, this is done for every message: so with few steps of Python's own.
    of_devices = by_source.values()
    newest = [of_device[-1] for of_device in of_devices]
    counts = list(map(len, of_devices))
    if max(counts) == 1:
        counts = []
    return _Columns(
        SEPARATOR.join(chain.from_iterable(by_source)),
        counts,
        [of_device[0].message.timestamp_ms for of_device in of_devices] if counts else [],
        [message.timestamp_ms for message, _, _ in newest],
        [reading.time for _, reading, _ in newest],
    )


def without(by_source: BySource, positions: Container[tuple[int, int]]) -> BySource:
    """The readings of the records in other positions; no source without any."""
    kept = {
        source: [received for received in of_device if received.position not in positions]
        for source, of_device in by_source.items()
    }
    return {source: of_device for source, of_device in kept.items() if of_device}


def _by_day(by_source: BySource) -> Iterable[BySource]:
    days: defaultdict[int, BySource] = defaultdict(dict)
    for source, of_device in by_source.items():
        for received in of_device:
            days[received.message.timestamp_ms // DAY_MS].setdefault(source, []).append(received)
    return days.values()


def merged(blobs: Iterable[bytes]) -> dict[str, list[Activity]]:
    """By domain what was packed: one for each device and day, the counts added, the time of the last reading.

    Raises `ValueError` for what `pack` did not make.
    """
    domains: defaultdict[str, dict[tuple[str, str, int], Activity]] = defaultdict(dict)
    for blob in blobs:
        domain, *packed = msgpack.unpackb(blob, timestamp=3)
        for columns in packed:
            _merge(domains[domain], _Columns._make(columns))
    return {domain: list(found.values()) for domain, found in domains.items()}


def storable_ms(timestamp_ms: int) -> int:
    """A record's time, or the nearest one that a table takes."""
    return min(max(timestamp_ms, 0), MOST_MS)


def _merge(found: dict[tuple[str, str, int], Activity], columns: _Columns) -> None:
    ids, counts, first_ms, last_ms, times = columns
    names = ids.split(SEPARATOR)
    each = zip(
        names[::2],
        names[1::2],
        counts or [1] * len(last_ms),
        first_ms or last_ms,
        last_ms,
        times,
        strict=True,
    )
    for user_id, device_id, messages, first, last, time in each:
        first, last = storable_ms(first), storable_ms(last)  # noqa: PLW2901
        key = (user_id, device_id, last // DAY_MS)
        one = Activity(*key, messages, first, last, time)
        old = found.get(key)
        found[key] = one if old is None else _both(old, one)


def _both(old: Activity, one: Activity) -> Activity:
    newer = one if one.last_ms >= old.last_ms else old
    return newer._replace(messages=old.messages + one.messages, first_ms=min(old.first_ms, one.first_ms))
