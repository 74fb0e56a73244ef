"""The deliveries in the database: added with the changes, claimed under a lease, marked at their end."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row

from tasks.channels import quiet, retries, turns
from tasks.channels.claim import Claim
from tasks.channels.outcome import Later, Never, Outcome, Sent
from tasks.rules.change import RECORDED, iso
from tasks.servers.database import Connection
from tasks.settings import settings

# A worker that died while it sent to a channel is given up after this: its delivery is sent again, same key.
LEASE_SECONDS = 60
# More deliveries of one channel that wait or are held fail at once: the table must not grow without end.
MOST_WAITING = 10_000
AT_ONCE = 5_000

# Follows an INSERT that is called `added` and returns the new rows of alert_history.
ADD = f"""
INSERT INTO channel_deliveries
    (channel_id, alert_id, status, rise, time, device_id, rule_id, state, why, done_at)
SELECT channels.id, alert_id, status, CASE WHEN status = 'ESCALATED' THEN severity ELSE '' END,
       time, device_id, rule_id,
       CASE WHEN is_full THEN 'failed' ELSE 'waiting' END,
       CASE WHEN is_full THEN 'more than {MOST_WAITING} deliveries of the channel wait' END,
       CASE WHEN is_full THEN now() END
FROM channels
CROSS JOIN LATERAL (SELECT count(*) >= {MOST_WAITING} AS is_full FROM (
    SELECT FROM channel_deliveries AS other
    WHERE other.channel_id = channels.id AND other.state IN ('waiting', 'held')
    LIMIT {MOST_WAITING}) AS others) AS waiting
JOIN added ON added.user_id = channels.user_id AND added.status = ANY (channels.statuses)
    AND (channels.severities IS NULL OR added.severity = ANY (channels.severities))
WHERE enabled AND channels.user_id IN (SELECT user_id FROM added)
ORDER BY added."number", added.time
ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants

_NOTICE = tuple(name for name in RECORDED if name != "number")

CLAIM = f"""
WITH {quiet.WINDOWS}, free AS (
    SELECT s.channel_id, due.id, c.user_id FROM {turns.FREE} WHERE {turns.MAY}
    -- First who had its turn longest ago.
    ORDER BY s.lease_until LIMIT %(most)s FOR UPDATE OF s SKIP LOCKED
), taken AS MATERIALIZED (
    -- What has been held or given up since the look leases no channel. By ids, as in `quiet`.
    SELECT free.* FROM free JOIN channel_deliveries AS d ON d.id = free.id
    WHERE d.state || '' = 'waiting' FOR UPDATE OF d
), leased AS (
    UPDATE channel_states AS s SET lease_until = now() + %(lease)s * interval '1 second', holder = %(holder)s
    FROM taken WHERE s.channel_id = taken.channel_id RETURNING s.channel_id, s.failures
), billed AS (
    INSERT INTO channel_users AS u (user_id, free_at)
    SELECT user_id, now() + count(*) * %(gap)s * interval '1 second' FROM taken GROUP BY user_id
    ON CONFLICT (user_id) DO UPDATE
    SET free_at = greatest(u.free_at, now()) + (excluded.free_at - now())
), counted AS (
    UPDATE channel_deliveries AS d SET attempts = attempts + 1
    FROM taken WHERE d.id = taken.id RETURNING d.*
)
SELECT counted.id AS delivery, counted.channel_id AS channel, c.user_id AS channel_user, c.name, c.kind,
       c.target, c.secret, c.template, counted.attempts, leased.failures,
       {", ".join(f'h."{name}"' for name in _NOTICE)}
FROM counted JOIN leased USING (channel_id) JOIN channels AS c ON c.id = counted.channel_id
LEFT JOIN LATERAL (
    SELECT * FROM alert_history AS h
    WHERE (h.alert_id, h.status, h.time) = (counted.alert_id, counted.status, counted.time)
        AND counted.rise IN ('', h.severity)
    LIMIT 1) AS h ON true
"""  # noqa: S608 - constants, and the names of our own fields

# A window may have opened, or ended, during the attempt, or its patience: what is confirmed was sent.
_MARK = """
UPDATE channel_deliveries SET
    state = CASE WHEN state = 'held' AND %(state)s = 'waiting' THEN state ELSE %(state)s END,
    why = CASE WHEN state = 'held' AND %(state)s = 'waiting' THEN why ELSE %(why)s END,
    attempts = attempts - %(given_back)s,
    next_at = now() + %(again_s)s * interval '1 second',
    done_at = CASE WHEN %(state)s <> 'waiting' THEN now() END
WHERE id = %(delivery)s
    AND (state IN ('waiting', 'held') OR state IN ('superseded', 'failed') AND %(state)s = 'sent')
"""
_FREE_AGAIN = """
UPDATE channel_states SET lease_until = now(), holder = NULL, failures = %(failures)s,
    rests_until = now() + %(rest_s)s * interval '1 second'
WHERE channel_id = %(channel)s AND holder = %(holder)s
"""

_LOOK = f"""
WITH {quiet.WINDOWS}
SELECT (SELECT count(*) FROM channel_deliveries WHERE state = 'waiting'),
       (SELECT extract(epoch FROM min(greatest(created_at, held_until))) FROM channel_deliveries
        WHERE state = 'waiting'),
       (SELECT extract(epoch FROM min(greatest(due.next_at, s.lease_until, s.rests_until,
            u.free_at - %(burst)s * interval '1 second'))) FROM {turns.FREE} WHERE {turns.MAY}),
       (SELECT count(*) FROM channel_deliveries WHERE state = 'held'),
       (SELECT count(*) FROM channels WHERE enabled)
"""  # noqa: S608 - constants

_EXPIRE = """
UPDATE channel_deliveries SET state = 'failed', done_at = now(),
    why = concat_ws('; ', why, 'given up after CHANNEL_PATIENCE_HOURS')
WHERE id IN (SELECT id FROM channel_deliveries
    WHERE state = 'waiting' AND greatest(created_at, held_until) < now() - %s * interval '1 hour'
    LIMIT %s FOR UPDATE SKIP LOCKED)
"""
_DROP = """
DELETE FROM channel_deliveries WHERE id IN (SELECT id FROM channel_deliveries
    WHERE done_at < now() - %s * interval '1 day' LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class Look(NamedTuple):
    """How many deliveries wait, since when (s since 1970), since when one is due and nobody takes it.

    `held` are those that a quiet window holds back; `channels` is how many channels are enabled.
    """

    waiting: int
    oldest: float | None
    untaken: float | None
    held: int = 0
    channels: int = 0


def pace() -> dict[str, float]:
    """The users' rate: an attempt is paid by `gap` seconds, and one may come while `burst` or less are owed.

    So a minute's worth comes at once. A look may take one of each channel more, which the next ones wait for.
    """
    gap = 60 / settings().channel_messages_per_minute
    return {"gap": gap, "burst": max(60 - gap, 0.0)}


def claim(connection: Connection, holder: UUID, most: int) -> list[Claim]:
    """The next deliveries, of `most` channels, one of each, under a lease. Raises `psycopg.Error`."""
    arguments = {
        "most": most,
        "holder": holder,
        "lease": LEASE_SECONDS,
        "near": turns.NEAR,
        "windows": quiet.spans(connection),
    } | pace()
    with connection.cursor(row_factory=dict_row) as cursor:
        return [_claim_of(row) for row in cursor.execute(CLAIM, arguments)]


def finish(connection: Connection, done: Claim, outcome: Outcome, holder: UUID) -> str | None:
    """Marks how an attempt ended, and frees its channel; returns `sent`, `failed` or `waiting`.

    It returns None, and changes nothing, where the holder has the lease no longer: a newer attempt says how
    that ends. Raises `psycopg.Error`.
    """
    marks: dict[str, Any] = {"delivery": done.delivery, "channel": done.channel, "holder": holder}
    marks |= {"state": "sent", "why": None, "again_s": 0.0, "rest_s": 0.0, "failures": 0, "given_back": 0}
    if isinstance(outcome, Never):
        # The channel answers: it need not rest.
        marks |= {"state": "failed", "why": outcome.why}
    elif isinstance(outcome, Later):
        failures = done.failures + 1
        marks |= {"failures": failures, "why": outcome.why, "again_s": retries.retry_seconds(done.attempts)}
        marks["rest_s"] = retries.rest_seconds(failures)
        if outcome.rest_s is not None:
            # The server is well and says when: that is not a failed attempt, and ends with the patience.
            marks |= {
                "failures": done.failures,
                "rest_s": outcome.rest_s,
                "again_s": outcome.rest_s,
                "given_back": 1,
            }
        last = done.attempts >= settings().channel_attempts and outcome.rest_s is None
        marks["state"] = "failed" if last else "waiting"
    else:
        assert isinstance(outcome, Sent)
    with connection.transaction(), connection.cursor() as cursor:
        if cursor.execute(_FREE_AGAIN, marks).rowcount == 0:
            return None
        cursor.execute(_MARK, marks)
    return str(marks["state"])


def look(connection: Connection) -> Look:
    """Looks at the waiting deliveries. Raises `psycopg.Error`."""
    arguments = {"near": turns.NEAR, "windows": quiet.spans(connection)} | pace()
    row: Any = connection.execute(_LOOK, arguments).fetchone()
    waiting, oldest, untaken, held, channels = row
    oldest, untaken = (None if one is None else float(one) for one in (oldest, untaken))
    return Look(waiting, oldest, untaken, held, channels)


def tidy(connection: Connection) -> int:
    """Gives up what has waited for too long, and drops old rows; returns how many. Raises `psycopg.Error`."""
    chosen = settings()
    expired = _all(connection, _EXPIRE, chosen.channel_patience_hours)
    _all(connection, _DROP, chosen.channel_retention_days)
    return expired


def _all(connection: Connection, statement: str, age: float) -> int:
    total = 0
    while True:
        changed = connection.execute(statement, [age, AT_ONCE]).rowcount
        total += changed
        if changed < AT_ONCE:
            return total


def _claim_of(row: dict[str, Any]) -> Claim:
    notice = dict(_public(row)) if row["alert_id"] is not None else None
    return Claim(
        user_id=row["channel_user"],
        notice=notice,
        **{
            name: row[name]
            for name in ("delivery", "channel", "name", "kind", "target", "secret", "template", "attempts")
        },
        failures=row["failures"],
    )


def _public(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _NOTICE:
        value = row[name]
        if value is not None or name not in {"values", "reason", "by", "note"}:
            yield name, iso(value) if isinstance(value, datetime) else value
