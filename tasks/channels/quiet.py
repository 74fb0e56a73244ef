"""Quiet windows over deliveries: a delivery in a window is held, and judged when the window has ended.

Everything follows from rows: the windows, and when a delivery was made. It does not matter which worker
looks, how often, or whether one died: a delivery that nobody looked at while a window was open is judged by
it afterwards, before it is sent.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from psycopg.rows import dict_row

from tasks.channels.windows import WEEKDAYS, Once, Recurring, Window, minutes_of
from tasks.servers.database import Connection

log = structlog.get_logger()

# Windows that ended earlier are not looked at: nothing waits that long.
MOST_BACK = timedelta(days=8)
# A window may open between this look and the statement that gets its result.
AHEAD = timedelta(minutes=1)
AT_ONCE = 5_000

# A window's spans as a statement gets them: `WITH windows AS MATERIALIZED (…)`.
WINDOWS = """windows AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(windows)s::jsonb) AS given (name text, user_id text, device_id text,
        rule_id text, severities text[], starts timestamptz, ends timestamptz)
)"""


def covered(delivery: str, channel: str) -> str:
    """The condition that the span `w` is about a delivery and has begun."""
    d = delivery
    return f"""
    (w.user_id IS NULL OR w.user_id = {channel}.user_id)
    AND (w.device_id IS NULL OR w.device_id = {d}.device_id)
    AND (w.rule_id IS NULL OR w.rule_id = {d}.rule_id) AND w.starts <= now() AND {d}.created_at < w.ends
    AND (w.severities IS NULL OR EXISTS (SELECT FROM alert_history AS h
        WHERE (h.alert_id, h.status, h.time) = ({d}.alert_id, {d}.status, {d}.time)
            AND {d}.rise IN ('', h.severity) AND h.severity = ANY (w.severities)))"""


# A window that is open, or was open since the delivery was made and has not been considered.
DUE = "(w.ends > now() OR w.ends > coalesce({d}.held_until, '-infinity'))"


def quiet(delivery: str, channel: str) -> str:
    """The condition that a waiting delivery must not be sent, before `settle` has judged it or at all."""
    due = DUE.format(d=delivery)
    return f"EXISTS (SELECT FROM windows AS w WHERE {covered(delivery, channel)} AND {due})"


def open_now(delivery: str, channel: str) -> str:
    """The condition that a window is open over a delivery."""
    return f"EXISTS (SELECT FROM windows AS w WHERE {covered(delivery, channel)} AND w.ends > now())"


_READ = """
WITH users AS MATERIALIZED (
    SELECT DISTINCT user_id FROM channels AS c WHERE EXISTS (
        SELECT FROM channel_deliveries AS d WHERE d.channel_id = c.id AND d.state IN ('waiting', 'held'))
)
SELECT user_id, name, device_id, rule_id, severities, starts_at, ends_at, time_zone, weekdays, from_time,
       until_time, changed_at, now() AS now,
       (SELECT min(created_at) FROM channel_deliveries WHERE state IN ('waiting', 'held')) AS oldest
FROM quiet_windows
WHERE enabled AND (user_id IS NULL OR user_id IN (SELECT user_id FROM users))
"""

# The deliveries that wait or are held, a part at a time, in their order. Below, `state || ''` keeps the
# planner from an index by states, which is nearly empty by old statistics; it needs the one by ids.
_PART = """part AS MATERIALIZED (
    SELECT d.*, c.user_id FROM channel_deliveries AS d JOIN channels AS c ON c.id = d.channel_id
    WHERE d.state IN ({states}) AND d.id > %(after)s ORDER BY d.id LIMIT %(most)s
)"""

_HOLD = f"""
WITH {WINDOWS}, {_PART.format(states="'waiting', 'held'")}, found AS MATERIALIZED (
    SELECT part.id, last.ends, last.name, last.user_id FROM part
    CROSS JOIN LATERAL (
        SELECT w.* FROM windows AS w WHERE {covered("part", "part")} AND CASE part.state
            WHEN 'waiting' THEN {DUE.format(d="part")} ELSE w.ends > part.held_until END
        ORDER BY w.ends DESC LIMIT 1) AS last
), locked AS (
    SELECT d.id, found.ends, found.name, found.user_id FROM channel_deliveries AS d JOIN found USING (id)
    WHERE d.state || '' IN ('waiting', 'held') ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
), held AS (
    UPDATE channel_deliveries AS d SET state = 'held', held_until = locked.ends,
        why = concat('held back by the ', CASE WHEN locked.user_id IS NULL THEN 'operator''s ' END, 'window ',
            locked.name)
    FROM locked WHERE d.id = locked.id
)
SELECT max(id) FROM part HAVING count(*) = %(most)s
"""  # noqa: S608 - constants

# The end of an alert is sent only if the channel was notified of it, or of the alert that it continues; of an
# alert that continues, the newest change is sent. Changes after the window's end do not count.
_JUDGE = f"""
WITH {WINDOWS}, {_PART.format(states="'held'")}, judged AS MATERIALIZED (
    SELECT d.id, {open_now("d", "d")} AS is_quiet, CASE
        WHEN d.status IN ('RESOLVED', 'DISABLED') THEN CASE WHEN
            EXISTS (SELECT FROM channel_deliveries AS own WHERE own.channel_id = d.channel_id
                AND own.alert_id = d.alert_id AND own.id < d.id)
            AND d.attempts = 0 AND d.attempts_before = 0 AND coalesce((
                SELECT last.status IN ('RESOLVED', 'DISABLED') FROM ((
                    SELECT told.id, told.status FROM channel_deliveries AS told
                    WHERE told.channel_id = d.channel_id AND told.device_id = d.device_id
                        AND told.rule_id = d.rule_id AND told.id < d.id
                        AND (told.attempts > 0 OR told.attempts_before > 0)
                        AND told.status NOT IN ('SNOOZED', 'ENABLED', 'ACKNOWLEDGED')
                    ORDER BY told.id DESC LIMIT 1)
                UNION ALL (
                    -- The end of an earlier alert, on its way.
                    SELECT ended.id, ended.status FROM channel_deliveries AS ended
                    WHERE ended.channel_id = d.channel_id AND ended.device_id = d.device_id
                        AND ended.rule_id = d.rule_id AND ended.id < d.id
                        AND ended.state IN ('waiting', 'held') AND ended.status IN ('RESOLVED', 'DISABLED')
                    ORDER BY ended.id DESC LIMIT 1)) AS last
                ORDER BY last.id DESC LIMIT 1), true)
            THEN 'its alert began and ended meanwhile' END
        WHEN EXISTS (SELECT FROM channel_deliveries AS own WHERE own.channel_id = d.channel_id
            AND own.alert_id = d.alert_id AND own.id > d.id AND own.created_at < until.at)
            OR EXISTS (SELECT FROM channel_deliveries AS newer WHERE newer.channel_id = d.channel_id
            AND newer.device_id = d.device_id AND newer.rule_id = d.rule_id AND newer.id > d.id
            AND newer.state IN ('waiting', 'held') AND newer.created_at < until.at)
            THEN 'a later change replaces it'
        WHEN EXISTS (SELECT FROM alert_history AS h WHERE h.alert_id = d.alert_id
            AND h.status IN ('RESOLVED', 'DISABLED') AND h.recorded_at < until.at)
            THEN 'its alert ended meanwhile'
        END AS needless
    FROM part AS d
    CROSS JOIN LATERAL (
        SELECT CASE WHEN d.held_until < now() THEN d.held_until ELSE 'infinity' END AS at) AS until
), locked AS (
    SELECT d.id, judged.needless FROM channel_deliveries AS d JOIN judged USING (id)
    WHERE d.state || '' = 'held' AND (judged.needless IS NOT NULL OR NOT judged.is_quiet)
    ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
), settled AS (
    UPDATE channel_deliveries AS d
    SET state = CASE WHEN needless IS NULL THEN 'waiting' ELSE 'superseded' END,
        done_at = CASE WHEN needless IS NOT NULL THEN now() END,
        why = CASE WHEN needless IS NOT NULL THEN concat_ws('; ', d.why, needless) END,
        next_at = now(), held_until = least(d.held_until, now())
    FROM locked WHERE d.id = locked.id
)
SELECT max(id) FROM part HAVING count(*) = %(most)s
"""  # noqa: S608 - constants


def spans(connection: Connection) -> str:
    """The spans, in JSON, of the windows that concern what waits: those of now, and those that ended lately.

    Raises `psycopg.Error`.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        return json.dumps([span for row in cursor.execute(_READ) for span in _spans(row)])


def settle(connection: Connection) -> None:
    """Holds what an open window covers, and judges what is held: it waits on, is needless, or is due again.

    May be repeated and run by several at once. Raises `psycopg.Error`.
    """
    windows = spans(connection)
    for statement in ([] if windows == "[]" else [_HOLD]) + [_JUDGE]:
        after: Any = [0]
        while after:
            arguments = {"windows": windows, "most": AT_ONCE, "after": after[0]}
            after = connection.execute(statement, arguments).fetchone()


def window_of(row: dict[str, Any]) -> Window:
    """The window of a row of `quiet_windows`.

    Raises `ValueError` and `OSError` for a time zone that is not known here.
    """
    if row["time_zone"] is None:
        return Once(row["starts_at"], row["ends_at"])
    return Recurring(
        ZoneInfo(row["time_zone"]),
        frozenset(map(WEEKDAYS.index, row["weekdays"])),
        minutes_of(row["from_time"]),
        minutes_of(row["until_time"]),
    )


def _spans(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    now: datetime = row["now"]
    since = max(now - MOST_BACK, min(row["oldest"] or now, now))
    try:
        window = window_of(row)
    except (ValueError, OSError) as error:
        log.warning("quiet_window_ignored", user_id=row["user_id"], window=row["name"], error=str(error))
        return
    named = {name: row[name] for name in ("name", "user_id", "device_id", "rule_id", "severities")}
    for span in window.spans(max(since, row["changed_at"]), now + AHEAD):
        yield named | {"starts": span.start.isoformat(), "ends": span.end.isoformat()}
