"""The work of `sluice channels`: the users' channels in the database, and a message to try one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import dict_row

from ingest.admin.alerting.channel_faults import fault, refusal
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from tasks.channels import attempt, tables, trial
from tasks.channels.outcome import Outcome
from tasks.text.times import in_utc


class NoChannel(OperatorError):
    """There is no such channel."""


class Retried(NamedTuple):
    """How many deliveries are sent again, and of how many a later change was sent already."""

    again: int
    skipped: int


# The statuses that a channel sends unless it says otherwise.
BY_DEFAULT: LiteralString = "'{TRIGGERED,FLAPPING,ESCALATED,RESOLVED}'"
# A channel with the outcome of its deliveries; the channel is read from `{channels}`, as `c`. The history
# may be long: only the index `channel_deliveries_states` and two rows of it are read.
SHOWN: LiteralString = """
SELECT c.user_id, c.name, c.kind, c.target, c.severities, c.statuses, c.template, c.enabled, c.created_at,
       s.failures, nullif(s.rests_until, '-infinity') AS rests_until, number.*, sent.sent_at, failure.why
FROM {channels} AS c JOIN channel_states AS s ON s.channel_id = c.id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
           count(*) FILTER (WHERE state = 'held') AS held,
           count(*) FILTER (WHERE state = 'superseded') AS superseded,
           count(*) FILTER (WHERE state = 'sent') AS sent, count(*) FILTER (WHERE state = 'failed') AS failed
    FROM channel_deliveries WHERE channel_id = c.id) AS number
LEFT JOIN LATERAL (
    SELECT done_at AS sent_at FROM channel_deliveries WHERE channel_id = c.id AND state = 'sent'
    ORDER BY done_at DESC LIMIT 1) AS sent ON true
LEFT JOIN LATERAL (
    SELECT why FROM (
        (SELECT why, done_at AS at FROM channel_deliveries
        WHERE channel_id = c.id AND state = 'failed' AND why IS NOT NULL ORDER BY done_at DESC LIMIT 1)
        UNION ALL
        (SELECT why, next_at FROM channel_deliveries
        WHERE channel_id = c.id AND state = 'waiting' AND why IS NOT NULL ORDER BY next_at DESC LIMIT 1)
    ) AS newest ORDER BY at DESC LIMIT 1) AS failure ON true
"""
_ADD: LiteralString = f"""
INSERT INTO channels (user_id, name, kind, target, severities, statuses, template)
VALUES (%s, %s, %s, %s, %s::text[], coalesce(%s::text[], {BY_DEFAULT}), %s)
RETURNING secret
"""  # noqa: S608 - constants
_LIST: LiteralString = f"""
{SHOWN.format(channels="channels")}
WHERE %s::text IS NULL OR c.user_id = %s
ORDER BY c.user_id, c.name
"""
_LOG = """
SELECT d.alert_id, d.status, d.time, d.device_id, d.rule_id, d.state, d.attempts, d.why,
       d.created_at, d.done_at,
       CASE WHEN d.state = 'waiting' THEN d.next_at END AS next_at,
       CASE WHEN d.state = 'held' THEN d.held_until END AS held_until
FROM channel_deliveries AS d JOIN channels AS c ON c.id = d.channel_id
WHERE c.user_id = %s AND c.name = %s ORDER BY d.id DESC LIMIT %s
"""
_FIND = "SELECT id, kind, target, secret, template FROM channels WHERE user_id = %s AND name = %s"
_ID = "SELECT id FROM channels WHERE user_id = %s AND name = %s"
# The channel has sent a later change: sent now, this one would be the last that the receiver gets.
_PASSED = """
EXISTS (SELECT FROM channel_deliveries AS later
    WHERE later.channel_id = d.channel_id AND later.alert_id = d.alert_id AND later.id > d.id
        AND later.state = 'sent')
"""
_SKIPPED = f"""
SELECT count(*) FROM channel_deliveries AS d
WHERE state = 'failed' AND channel_id = %(channel)s AND {_PASSED}
"""  # noqa: S608 - constants
_RETRY = f"""
UPDATE channel_deliveries SET state = 'waiting', attempts_before = attempts_before + attempts, attempts = 0,
    next_at = now(), created_at = now(), done_at = NULL
WHERE id IN (
    SELECT id FROM channel_deliveries AS d
    WHERE state = 'failed' AND channel_id = %(channel)s AND NOT {_PASSED}
    ORDER BY id LIMIT greatest(0, %(most)s - (
        SELECT count(*) FROM channel_deliveries
        WHERE state IN ('waiting', 'held') AND channel_id = %(channel)s)))
"""  # noqa: S608 - constants
_WAKE = "UPDATE channel_states SET failures = 0, rests_until = '-infinity' WHERE channel_id = %s"


def add(
    connection: Connection,
    user_id: str,
    name: str,
    kind: str,
    target: str,
    *,
    severities: list[str] | None,
    statuses: list[str] | None,
    template: str | None,
) -> str:
    """Adds a channel and returns the secret that signs its webhooks. Raises `OperatorError`."""
    if problem := fault(kind, target, template):
        raise OperatorError(problem)
    try:
        row = connection.execute(
            _ADD, [user_id, name, kind, target, severities or None, statuses or None, template]
        ).fetchone()
    except psycopg.errors.UniqueViolation as error:
        raise OperatorError(
            f"The user {user_id} has a channel {name}; `sluice channels remove {user_id} {name}` removes it."
        ) from error
    except psycopg.errors.CheckViolation as error:
        raise OperatorError(refusal(error)) from error
    assert row is not None
    return str(row[0])


def remove(connection: Connection, user_id: str, name: str) -> None:
    """Removes a channel and its deliveries. Raises `OperatorError`."""
    connection.execute("DELETE FROM channels WHERE id = %s", [id_of(connection, user_id, name)])


def listed(connection: Connection, user_id: str | None) -> list[dict[str, Any]]:
    """The channels of all users or of one, with what became of their deliveries; no secret is among it."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_LIST, [user_id, user_id]).fetchall()
    for row in rows:
        row["target"] = shown(row["kind"], row["target"])
    return rows


def deliveries(connection: Connection, user_id: str, name: str, limit: int) -> list[dict[str, Any]]:
    """The newest deliveries of a channel, newest first. Raises `OperatorError`."""
    id_of(connection, user_id, name)
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_LOG, [user_id, name, limit]).fetchall()


def retry(connection: Connection, user_id: str, name: str) -> Retried:
    """Has failed deliveries of a channel sent again, under the same keys.

    The oldest come first, and no more than may wait. Those of which the channel has heard a later change of
    the same alert stay as they are. Raises `OperatorError`.
    """
    channel = id_of(connection, user_id, name)
    with connection.transaction():
        connection.execute(_WAKE, [channel])
        asked = {"channel": channel, "most": tables.MOST_WAITING}
        again = connection.execute(_RETRY, asked).rowcount
        skipped: Any = connection.execute(_SKIPPED, asked).fetchone()
    return Retried(again, skipped[0])


def test(connection: Connection, user_id: str, name: str, now: datetime) -> Outcome:
    """Sends a channel, from here, an alert that says it is a test. Raises `OperatorError`."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_FIND, [user_id, name]).fetchone()
    if found is None:
        raise _none(user_id, name)
    return attempt.attempt(trial.claim_of({**found, "user_id": user_id, "name": name}, now))


def shown(kind: str, target: str) -> str:
    """As much of a target as may be read: a mail's address; of a URL what names no account and no token."""
    if kind == "mail":
        return target
    try:
        parts = urlsplit(target)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return "…"
    # Services of Apprise have tokens where others have their host.
    return f"{parts.scheme}://{parts.hostname}{port}/…" if kind == "webhook" else f"{parts.scheme}://…"


def as_text(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each channel: where it leads, what it sends, and the outcome."""
    for row in rows:
        which = "all severities" if row["severities"] is None else ", ".join(row["severities"])
        sent = "" if row["sent_at"] is None else f" (last {in_utc(row['sent_at'])})"
        off = "" if row["enabled"] else "  off"
        why = f"  last failure: {row['why']}" if row["why"] else ""
        rests = row["rests_until"]
        held = f", held back {row['held']}" if row["held"] else ""
        superseded = f", superseded {row['superseded']}" if row["superseded"] else ""
        pause = f"  rests until {in_utc(rests)}" if rests and rests > datetime.now(UTC) else ""
        yield (
            f"{row['user_id']}/{row['name']}{off}  {row['kind']} {row['target']}  {which}:"
            f" {', '.join(row['statuses'])}  sent {row['sent']}{sent}, waiting {row['waiting']},"
            f" failed {row['failed']}{held}{superseded}{pause}{why}"
        )


def log_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each delivery."""
    for row in rows:
        when = "" if row["next_at"] is None else f"  next {in_utc(row['next_at'])}"
        if row["held_until"]:
            when = f"  until {in_utc(row['held_until'])}"
        why = f"  {row['why']}" if row["why"] else ""
        yield (
            f"{in_utc(row['time'])}  {row['state']:<10}  {row['status']}  {row['device_id']}"
            f"  {row['rule_id']}"
            f"  attempts {row['attempts']}{when}{why}  {row['alert_id']}/{row['status']}"
        )


def id_of(connection: Connection, user_id: str, name: str) -> int:
    """The channel's number. Raises `NoChannel`."""
    found: Any = connection.execute(_ID, [user_id, name]).fetchone()
    if found is None:
        raise _none(user_id, name)
    number: int = found[0]
    return number


def _none(user_id: str, name: str) -> NoChannel:
    return NoChannel(f"The user {user_id} has no channel {name}; see `sluice channels list`.")
