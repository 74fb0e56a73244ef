"""Hints at readings whose device seems to send a time that is stored as an extra: in the log and a counter.

Such a reading becomes a row at its arrival. That may be what the device means, or be overlooked for long.
"""

import time
from collections import OrderedDict

import structlog

from tasks.domain.domain import AnyDomain, Source
from tasks.observe.metrics.worker import TIME_HINTS
from tasks.rows.validate import Received

log = structlog.get_logger()

LOOKS_LIKE_A_TIME = ("ts", "timestamp", "Time", "Timestamp", "tst", "datetime", "date", "last_seen")
# Of a part: a device that goes on sending is among them sooner or later, and the others cost nothing.
MOST_SAMPLED = 16
EVERY_SECONDS = 3600.0
MOST_DEVICES = 10_000

# By device, when the last hint was given; the oldest are forgotten first.
_given: OrderedDict[Source, float] = OrderedDict()


def give(domain: AnyDomain, readings: list[Received]) -> None:
    """Gives a hint at each sampled reading without the domain's time and with a member of another such name.

    At most once an hour and device, in each process. A domain with a form says itself where its times are.
    """
    if domain.form is not None:
        return
    for _, reading, _ in readings[:: len(readings) // MOST_SAMPLED + 1]:
        payload = reading.payload
        if payload.get(domain.time_member) is None:
            found = next((name for name in LOOKS_LIKE_A_TIME if name in payload), None)
            if found is not None and found not in domain.members:
                _give(domain, reading.source, found)


def _give(domain: AnyDomain, source: Source, member: str) -> None:
    now = time.monotonic()
    if now - _given.get(source, -EVERY_SECONDS) < EVERY_SECONDS:
        return
    _given[source] = now
    _given.move_to_end(source)
    if len(_given) > MOST_DEVICES:
        _given.popitem(last=False)
    TIME_HINTS.add(1)
    log.warning(
        "time_kept_as_extra",
        hint=f"`{member}` looks like a time, and is stored as an extra: the time is `{domain.time_member}`",
        domain=domain.name,
        **source._asdict(),
    )
