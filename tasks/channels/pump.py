"""Tells the channels: many at once, each in a thread, one delivery at a time; this thread asks the database.

A slow channel holds its thread and nothing else. If this process dies, the leases of its deliveries end and
they are sent again by the same keys.
"""

import time
import uuid
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import structlog

from tasks.channels import attempt, tables
from tasks.channels.claim import Claim
from tasks.channels.outcome import Outcome, Sent
from tasks.observe.metrics import worker as metrics
from tasks.servers import database

log = structlog.get_logger()

# Threads of one call: as many channels may hang before others wait for them.
CHANNELS_AT_ONCE = 32
# After this a call takes no more deliveries, so that a worker can stop in time.
RUN_SECONDS = 5.0
LOOK_SECONDS = 0.5


def run(seconds: float = RUN_SECONDS) -> Counter[str]:
    """Tells what is due, for some seconds at most, and what it has begun; returns how the attempts ended.

    Raises `psycopg.Error`.
    """
    holder = uuid.uuid4()
    ended: Counter[str] = Counter()
    running: dict[Future[Outcome], Claim] = {}
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(CHANNELS_AT_ONCE, thread_name_prefix="channel") as threads:
        while True:
            free = CHANNELS_AT_ONCE - len(running)
            if free and time.monotonic() < deadline:
                with database.access() as connection:
                    claims = tables.claim(connection, holder, free)
                running |= {threads.submit(attempt.attempt, one): one for one in claims}
            if not running:
                return ended
            for future in wait(running, LOOK_SECONDS, FIRST_COMPLETED).done:
                ended[_finish(running.pop(future), future.result(), holder)] += 1


def _finish(done: Claim, outcome: Outcome, holder: uuid.UUID) -> str:
    with database.access() as connection:
        state = tables.finish(connection, done, outcome, holder)
    metrics.CHANNEL_ATTEMPTS.add(1, {"waiting": "again"}.get(state, state))
    if not isinstance(outcome, Sent):
        log.info(
            "channel_failed", user_id=done.user_id, channel=done.name, attempt=done.attempts, state=state,
            error=outcome.why,
        )  # fmt: skip
    return state
