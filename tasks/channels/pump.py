"""Sends to channels: many at once, each in a thread, one delivery at a time; this thread asks the database.

A slow channel holds its thread and nothing else. If this process dies, the leases of its deliveries end and
they are sent again with the same keys.
"""

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import psycopg
import structlog

from tasks.channels import attempt, quiet, tables
from tasks.channels.claim import Claim
from tasks.channels.outcome import Later, Outcome, Sent
from tasks.observe.metrics import worker as metrics
from tasks.servers import database

log = structlog.get_logger()

# Threads of one call: as many channels may hang before others wait for them.
CHANNELS_AT_ONCE = 32
# After this a call takes no more deliveries, unless some are on their way: others need not wait for those.
RUN_SECONDS = 5.0
# After this it takes none at all, so that a worker can stop in time.
MOST_SECONDS = 20.0
LOOK_SECONDS = 0.5
SETTLE_SECONDS = 1.0
# No attempt is waited for longer: a name may be looked up for ever. Its thread then connects to nothing more.
# The rest of the lease is for marking how it ended.
PATIENCE_SECONDS = tables.LEASE_SECONDS - 10.0


class _Under(NamedTuple):
    """A delivery under its lease, and until when it is waited for."""

    claim: Claim
    holder: uuid.UUID
    since: float


class _Run:
    """The attempts of one call: those under way, and those that have ended but are not marked yet."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads
        self.running: dict[Future[Outcome], _Under] = {}
        self.left: set[Future[Outcome]] = set()  # they still hold their threads
        self.done: list[tuple[_Under, Outcome]] = []
        self.ended: Counter[str] = Counter()
        self.settles = time.monotonic()

    def claim(self) -> None:
        """Takes what is due and not quiet, as far as there are threads. Raises `psycopg.Error`."""
        self.left = {one for one in self.left if not one.done()}
        free = CHANNELS_AT_ONCE - len(self.running) - len(self.left)
        if free <= 0:
            return
        self._settle()
        holder, since = uuid.uuid4(), time.monotonic()
        with database.access() as connection:
            claims = tables.claim(connection, holder, free)
        for one in claims:
            future = self.threads.submit(attempt.attempt, one)
            self.running[future] = _Under(one, holder, since)

    def _settle(self) -> None:
        began = time.monotonic()
        if began < self.settles:
            return
        with database.access() as connection:
            quiet.settle(connection)
        # Where there is much to look at, less often.
        self.settles = max(began + SETTLE_SECONDS, 10 * time.monotonic() - 9 * began)

    def collect(self) -> None:
        """Waits a moment for attempts to end, and gives up those that take too long."""
        for future in wait(self.running, LOOK_SECONDS, FIRST_COMPLETED).done:
            self.done.append((self.running.pop(future), future.result()))
        late = time.monotonic() - PATIENCE_SECONDS
        for future in [one for one, under in self.running.items() if under.since < late]:
            self.left.add(future)
            self.done.append((self.running.pop(future), Later("no answer in time")))

    def mark(self) -> None:
        """Marks ended attempts; those that the database does not take are kept until the lease is over."""
        kept: list[tuple[_Under, Outcome]] = []
        for under, outcome in self.done:
            if kept:
                # Only one at a time waits for the database.
                kept.append((under, outcome))
                continue
            try:
                state = _finish(under.claim, outcome, under.holder)
            except psycopg.Error as error:
                kept.append((under, outcome))
                log.warning("channel_not_marked", error=str(error).strip())
            else:
                self.ended[state or "late"] += 1
        over = time.monotonic() - tables.LEASE_SECONDS
        self.done = [one for one in kept if one[0].since > over]
        if kept and not self.running:
            time.sleep(LOOK_SECONDS)


def run(hand_over: Callable[[], None], seconds: float = RUN_SECONDS) -> Counter[str]:
    """Sends the deliveries that are due, and waits for those it has begun; returns how the attempts ended.

    It takes deliveries for `seconds`, and longer while some are on their way. Before it waits for the last
    ones alone it calls `hand_over`, so that another run takes what is due meanwhile. It does not fail where
    the database does: ended attempts are marked as soon as they can be.
    """
    began = time.monotonic()
    # By chance, lest two workers with a hanging channel each stop at the same time.
    most = max(seconds, MOST_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
    threads = ThreadPoolExecutor(CHANNELS_AT_ONCE, thread_name_prefix="channel")
    this, claims = _Run(threads), True
    try:
        while True:
            passed = time.monotonic() - began
            if claims and (passed >= most or (passed >= seconds and not this.running)):
                claims = False
                if this.running:
                    hand_over()
            if claims:
                try:
                    this.claim()
                except psycopg.Error as error:
                    log.warning("channels_wait", error=str(error).strip())
                    claims = False
            if not this.running and not this.done:
                return this.ended
            this.collect()
            this.mark()
    finally:
        # A thread that was given up ends on its own.
        threads.shutdown(wait=False, cancel_futures=True)


def _finish(done: Claim, outcome: Outcome, holder: uuid.UUID) -> str | None:
    with database.access() as connection:
        state = tables.finish(connection, done, outcome, holder)
    if state is None:
        return None
    metrics.CHANNEL_ATTEMPTS.add(1, {"waiting": "again"}.get(state, state))
    if not isinstance(outcome, Sent):
        log.info(
            "channel_failed", user_id=done.user_id, channel=done.name, attempt=done.attempts, state=state,
            error=outcome.why,
        )  # fmt: skip
    return state
