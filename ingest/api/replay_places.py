"""How many replays may be under way: one of a tenant, few in all, since each holds a worker's child for long.

A run counts from when it is sent until it has ended: in Redis until a worker has begun it, then in the table.
One whose worker is gone counts while another worker may yet take it over, and no longer.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import redis

from ingest.admin.errors import ServerAway
from ingest.admin.postgres import Connection
from ingest.api.callers import Caller
from ingest.api.problems import Refused
from ingest.mqtt.rate_limits import RateLimit
from tasks.servers.redis_client import REPLAYS_SENT, client, text

# Longer than beat needs for the takeover of a run (90 s without a sign of life), several times.
STALE_SECONDS = 300
# A worker has more children than that by default, and `store` needs one.
MOST = 3
RETRY_SECONDS = 10
# Each run leaves a line in `replays` and one in the operators' trail.
RUNS_PER_SECOND, RUNS_AT_ONCE_SECONDS = 1 / 30, 600.0

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('sluice_replays_by_api'))"
_UNDER_WAY = """
SELECT arguments -> 'filters' ->> 'user' FROM replays
WHERE ended_at IS NULL AND kind = 'dead_letters' AND updated_at > now() - %s * interval '1 s'
"""
_BEGUN = "SELECT run_id FROM replays WHERE run_id = ANY(%s)"

_runs = RateLimit(RUNS_PER_SECOND, RUNS_AT_ONCE_SECONDS)


class Sent(NamedTuple):
    """A run that was sent, and the user whose letters it is about; None for all users'."""

    run_id: str
    user_id: str | None


def check(caller: Caller, users: Iterable[str | None]) -> None:
    """Raises `Refused` (429) if the caller may begin no replay beside those, of these users' letters."""
    under_way = Counter(users)
    if caller.user_id is not None and under_way[caller.user_id]:
        raise _too_many("A replay of this user's dead letters, or a count of them, has not ended yet.")
    most = MOST if caller.is_operator else MOST - 1
    if under_way.total() >= most:
        raise _too_many(f"{under_way.total()} replays are under way, and no more may be at the same time.")


def check_rate(caller: Caller) -> None:
    """Counts a run of a tenant. Raises `Refused` (429) for one beyond the rate."""
    if caller.user_id is not None and not _runs.take(caller.user_id):
        seconds = round(1 / RUNS_PER_SECOND)
        raise Refused(
            429,
            f"A tenant may begin one replay or count every {seconds} s in the long run. Wait a moment.",
            Retry_After=str(seconds),
        )


@contextmanager
def place(connection: Connection, caller: Caller, user_id: str | None, run_id: str) -> Iterator[None]:
    """The place of a run that is sent in the block, by the transaction of the connection.

    Raises `Refused` (429) without one, `ServerAway` without Redis. A block that fails gives it back.
    """
    connection.execute(_LOCK)
    begun = [_user(row[0]) for row in connection.execute(_UNDER_WAY, [STALE_SECONDS])]
    sent = Sent(run_id, user_id)
    try:
        check(caller, [*begun, *(one.user_id for one in _waiting(connection))])
        check_rate(caller)
        client().zadd(REPLAYS_SENT, {_member(sent): time.time()})
        client().expire(REPLAYS_SENT, STALE_SECONDS)
    except redis.RedisError as error:
        raise ServerAway(
            f"The replay could not be noted in Redis: {error}. Check REDIS_URL and that the server runs."
        ) from error
    try:
        yield
    except BaseException:
        _forget([sent])
        raise


def _waiting(connection: Connection) -> list[Sent]:
    """The replays that were sent lately and have not begun."""
    members = client().zrangebyscore(REPLAYS_SENT, time.time() - STALE_SECONDS, "+inf")
    sent = [_sent(text(one)) for one in members if isinstance(one, bytes | str)]
    begun = {str(row[0]) for row in connection.execute(_BEGUN, [[one.run_id for one in sent]])}
    _forget([one for one in sent if one.run_id in begun])
    return [one for one in sent if one.run_id not in begun]


def _forget(sent: list[Sent]) -> None:
    if sent:
        client().zrem(REPLAYS_SENT, *(_member(one) for one in sent))


def _member(sent: Sent) -> str:
    return sent.run_id if sent.user_id is None else f"{sent.run_id} {sent.user_id}"


def _sent(member: str) -> Sent:
    run_id, _, user_id = member.partition(" ")
    return Sent(run_id, user_id or None)


def _user(value: object) -> str | None:
    return None if value is None else str(value)


def _too_many(detail: str) -> Refused:
    return Refused(429, f"{detail} Try again when one has ended.", Retry_After=str(RETRY_SECONDS))
