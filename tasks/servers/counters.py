"""Running totals of the pipeline, in one Redis hash, for `sluice` and the live view.

They are for people: a flushed Redis starts them at zero, and a batch that runs again counts again. `since` is
when the first batch was counted. readings = stored + duplicate + refused always holds, because a batch is
counted at its end, as a whole. Where each message is one reading, that is received = stored + duplicate +
dead_lettered. Only Kafka knows what is in flight: the lag of the bridge's group. `sluice verify` proves.
"""

from datetime import UTC, datetime
from typing import Literal

import redis
from redis.client import Pipeline

from tasks.servers.redis_client import COUNTERS, client, text

Name = Literal[
    "received",  # messages of finished batches
    "readings",  # in these messages
    "stored",  # rows written
    "duplicate",  # readings whose row was stored already
    "refused",  # readings that a dead letter is about
    "dead_lettered",  # messages sent to the dead letters
    "ignored",  # messages that hold no reading, by the form of their domain
    "batches",  # batches finished
    "resent",  # batches sent again because they had vanished: workers or Redis die; see their logs
    "checks_failed",  # times that a check of a domain raised an error instead of a result: see the log
    "task_messages_refused",  # foreign or malformed task messages; see the worker's log
    "store_waits",  # batches for which `store` waited for the database: see its log
    "db_rejected",  # accesses that the open circuit breaker refused: the database is away, see breaker_open
    "latency_ms_last",  # age of the oldest message of the last batch when its rows were committed
]

# Set by report.lua.
SINCE = "since"


def add(commands: Pipeline | redis.Redis, amounts: dict[Name, int]) -> None:
    """Adds to the counters: at once with a client, or as part of a pipeline."""
    for name, amount in amounts.items():
        if amount:
            commands.hincrby(COUNTERS, name, amount)


def read() -> dict[str, int]:
    """All counters that were ever added to. Raises `redis.RedisError`."""
    return {name: value for name, value in _all().items() if name != SINCE}


def read_since() -> tuple[dict[str, int], datetime | None]:
    """The same, and since when batches are counted: the first one in a Redis that was empty.

    None before that batch. Raises `redis.RedisError`.
    """
    found = _all()
    since = found.pop(SINCE, None)
    return found, None if since is None else datetime.fromtimestamp(since, UTC)


def _all() -> dict[str, int]:
    return {text(name): int(value) for name, value in client().hgetall(COUNTERS).items()}
