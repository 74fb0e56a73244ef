"""The share of dead letters: a few are a device's fault, many at once are usually ours.

Beat schedules the check of the counters. Above the limit a log entry says what to look at, once per episode,
and a metric stays raised until the share is below half of the limit.
"""

import json
import time
from typing import Any, NamedTuple

import structlog

from tasks.app import app
from tasks.servers import counters, turns
from tasks.servers.redis_client import DEAD_LETTER_SHARE, DEAD_LETTER_TYPES, SHARE_SAMPLES, client, text
from tasks.servers.turns import Turn
from tasks.settings import settings

log = structlog.get_logger()

# Fewer in a window mean nothing, however large their share of the messages.
FEWEST = 10
SAMPLES_KEPT = 1000

LOOK_AT = {
    "Unexpected": "the exception in the workers' log; fix the code, then replay",
    "WorkerLost": "the workers' memory and log; then replay",
    "WorkerHung": "the domain's code: a loop that does not end; fix it, then replay",
    "DatabaseRefused": "the table's constraints and the errors' SQLSTATE; fix the schema, then replay",
    "Conflict": "the devices of the letters: a stopped clock, or a counter that restarts",
}
LOOK_AT_DEVICES = "the errors' texts and topics: which devices, and since which firmware"


class Sample(NamedTuple):
    """The running totals at one time."""

    at: float
    received: int
    dead: int
    types: dict[str, int]


class Share(NamedTuple):
    """The outcome of a window's messages, with the error types of its dead letters, most frequent first."""

    received: int
    dead: int
    types: list[str]

    @property
    def value(self) -> float:
        """Dead letters per message, 0 to 1."""
        return self.dead / self.received if self.received else 0.0

    def is_high(self, limit: float, *, before: bool) -> bool:
        """Whether it is above the limit; once it was, until it is below half of that."""
        if before:
            return self.value > limit / 2
        return self.dead >= FEWEST and self.value > limit


def between(first: Sample, last: Sample) -> Share:
    """The share between two samples; zero messages where the counters have started again."""
    received, dead = last.received - first.received, last.dead - first.dead
    if received < 0 or dead < 0:
        return Share(0, 0, [])
    grown = {name: count - first.types.get(name, 0) for name, count in last.types.items()}
    types = sorted((name for name, count in grown.items() if count > 0), key=lambda name: -grown[name])
    return Share(received, dead, types)


def is_high() -> bool:
    """Whether an episode is under way. Raises `redis.RedisError`."""
    return bool(client().exists(DEAD_LETTER_SHARE))


@app.task(name="tasks.share.watch_share")
def watch_share() -> None:
    """Checks the share of the last window, and logs when an episode begins or ends."""
    turns.run_if_free("share", _watch)


def _watch(_turn: Turn) -> None:
    chosen = settings()
    now = _sample()
    share = between(_oldest(now, chosen.dead_letter_share_window_seconds), now)
    before = is_high()
    high = share.is_high(chosen.dead_letter_share_limit, before=before)
    if high == before:
        return
    if not high:
        client().delete(DEAD_LETTER_SHARE)
        log.info("dead_letter_share_normal", share=round(share.value, 4))
        return
    client().set(DEAD_LETTER_SHARE, 1)
    log.error(
        "dead_letter_share_high",
        share=round(share.value, 4),
        limit=chosen.dead_letter_share_limit,
        window_s=chosen.dead_letter_share_window_seconds,
        dead_letters=share.dead,
        received=share.received,
        error_types=share.types[:5],
        look_at=LOOK_AT.get(share.types[0] if share.types else "", LOOK_AT_DEVICES),
    )


def _sample() -> Sample:
    totals = counters.read()
    types = {text(name): int(count) for name, count in client().hgetall(DEAD_LETTER_TYPES).items()}
    return Sample(time.time(), totals.get("received", 0), totals.get("dead_lettered", 0), types)


def _oldest(now: Sample, window_seconds: float) -> Sample:
    """Adds the sample to the stored ones; returns the oldest of the window."""
    pipeline = client().pipeline(transaction=True)
    pipeline.rpush(SHARE_SAMPLES, json.dumps(now))
    pipeline.ltrim(SHARE_SAMPLES, -SAMPLES_KEPT, -1)
    pipeline.lrange(SHARE_SAMPLES, 0, -1)
    kept: list[Any] = [json.loads(text(sample)) for sample in pipeline.execute()[2]]
    # Totals larger than the present ones date from before a flush.
    while kept[0][0] < now.at - window_seconds or kept[0][1] > now.received:
        kept.pop(0)
        client().lpop(SHARE_SAMPLES)
    return Sample._make(kept[0])
