"""The registry's tables: adding to them, and up to where each source of counts is in them."""

import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from tasks.devices.activity import Activity
from tasks.domain.presence import Said
from tasks.servers import database
from tasks.servers.turns import TurnLost

# Days that are kept in device_days.
KEPT_DAYS = 90

ADD_DEVICES = """
INSERT INTO devices AS known
    (domain, user_id, device_id, first_seen, last_seen, own_time, clock_skew_ms)
SELECT %(domain)s, user_id, device_id, 'epoch'::timestamptz + min(first_ms) * interval '1 ms',
    'epoch'::timestamptz + max(last_ms) * interval '1 ms',
    (array_agg(own_time ORDER BY last_ms DESC))[1], (array_agg(skew_ms ORDER BY last_ms DESC))[1]
FROM unnest(%(users)s::text[], %(devices)s::text[], %(first)s::bigint[], %(last)s::bigint[],
    %(times)s::timestamptz[], %(skews)s::bigint[])
    AS noted (user_id, device_id, first_ms, last_ms, own_time, skew_ms)
GROUP BY user_id, device_id
ON CONFLICT (user_id, device_id) DO UPDATE SET
    first_seen = least(known.first_seen, excluded.first_seen),
    last_seen = greatest(known.last_seen, excluded.last_seen),
    own_time = CASE WHEN excluded.last_seen < known.last_seen THEN coalesce(known.own_time, excluded.own_time)
        ELSE excluded.own_time END,
    clock_skew_ms = CASE WHEN excluded.last_seen < known.last_seen
        THEN coalesce(known.clock_skew_ms, excluded.clock_skew_ms) ELSE excluded.clock_skew_ms END
"""
ADD_DAYS = """
INSERT INTO device_days AS known (user_id, device_id, day, messages, dead_letters)
SELECT user_id, device_id, 'epoch'::date + day, messages, dead_letters
FROM unnest(%(users)s::text[], %(devices)s::text[], %(days)s::int[], %(messages)s::bigint[],
    %(letters)s::bigint[])
    AS noted (user_id, device_id, day, messages, dead_letters)
ON CONFLICT (user_id, device_id, day) DO UPDATE SET
    messages = known.messages + excluded.messages,
    dead_letters = known.dead_letters + excluded.dead_letters
"""
ADD_REFUSALS = """
INSERT INTO devices AS known
    (domain, user_id, device_id, first_seen, last_seen, refused_at, refused_type, refused_reason)
SELECT %(domain)s, user_id, device_id, 'epoch'::timestamptz + first_ms * interval '1 ms',
    'epoch'::timestamptz + last_ms * interval '1 ms', refused_at, refused_type, refused_reason
FROM unnest(%(users)s::text[], %(devices)s::text[], %(first)s::bigint[], %(last)s::bigint[],
    %(refused)s::timestamptz[], %(types)s::text[], %(reasons)s::text[])
    AS noted (user_id, device_id, first_ms, last_ms, refused_at, refused_type, refused_reason)
ON CONFLICT (user_id, device_id) DO UPDATE SET
    first_seen = least(known.first_seen, excluded.first_seen),
    last_seen = greatest(known.last_seen, excluded.last_seen),
    refused_at = greatest(known.refused_at, excluded.refused_at),
    refused_type = CASE WHEN known.refused_at > excluded.refused_at
        THEN known.refused_type ELSE excluded.refused_type END,
    refused_reason = CASE WHEN known.refused_at > excluded.refused_at
        THEN known.refused_reason ELSE excluded.refused_reason END
"""
# A reading's own time stands for its arrival, which no table has; a clock that is ahead must not put the
# device's last sign of life into the future.
ADD_COUNTED = """
WITH counted AS (
    SELECT * FROM unnest(%(users)s::text[], %(devices)s::text[], %(messages)s::bigint[],
        %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
        AS noted (user_id, device_id, messages, first_time, last_time)
), days AS (
    INSERT INTO device_days AS known (user_id, device_id, day, messages)
    SELECT user_id, device_id, %(day)s::date, messages FROM counted
    ON CONFLICT (user_id, device_id, day) DO UPDATE SET messages = greatest(known.messages, excluded.messages)
)
INSERT INTO devices AS known (domain, user_id, device_id, first_seen, last_seen, own_time)
SELECT %(domain)s, user_id, device_id, least(first_time, now()), least(last_time, now()), last_time
FROM counted
ON CONFLICT (user_id, device_id) DO UPDATE SET
    first_seen = least(known.first_seen, excluded.first_seen),
    last_seen = greatest(known.last_seen, excluded.last_seen),
    own_time = CASE WHEN excluded.last_seen < known.last_seen THEN coalesce(known.own_time, excluded.own_time)
        ELSE excluded.own_time END
"""
# A last will is not from the device itself, so it is not a sign of life: `last_seen` stays.
ADD_PRESENCE = """
INSERT INTO devices AS known (domain, user_id, device_id, first_seen, last_seen, online, online_at)
SELECT %(domain)s, user_id, device_id, at, at, online, at FROM (
    SELECT user_id, device_id, online, 'epoch'::timestamptz + at_ms * interval '1 ms' AS at
    FROM unnest(%(users)s::text[], %(devices)s::text[], %(online)s::boolean[], %(at)s::bigint[])
        AS noted (user_id, device_id, online, at_ms)
) AS said
ON CONFLICT (user_id, device_id) DO UPDATE SET online = excluded.online, online_at = excluded.online_at
WHERE known.online_at IS NULL OR known.online_at <= excluded.online_at
"""
POSITION = "SELECT position FROM device_positions WHERE source = %s"
MOVED = """
SELECT FROM device_positions WHERE source = %s AND updated_at > now() - %s * interval '1 s'
"""
# A worker that lost its turn unnoticed must not add what another has added.
SET_POSITION = """
INSERT INTO device_positions AS known (source, position) VALUES (%(source)s, %(reached)s)
ON CONFLICT (source) DO UPDATE SET position = excluded.position, updated_at = now()
WHERE known.position = %(before)s
"""
DROP_OLD_DAYS = f"DELETE FROM device_days WHERE day < current_date - {KEPT_DAYS}"  # noqa: S608 - our own number


class Refusals(NamedTuple):
    """The refusals of one device: the last one, and their number by the day of the messages' arrival."""

    user_id: str
    device_id: str
    first_ms: int
    last_ms: int
    refused_at: datetime
    error_type: str
    reason: str
    days: dict[int, int]


class Counted(NamedTuple):
    """The rows of a device on one day by their own time: their number, the first and the last time."""

    messages: int
    first: datetime
    last: datetime


def position(connection: database.Connection, source: str) -> Any:
    """Up to where the source has been counted; None if it never was."""
    found = connection.execute(POSITION, [source]).fetchone()
    return None if found is None else found[0]


def moved(connection: database.Connection, source: str, seconds: int) -> bool:
    """Whether the source's position was set within the last seconds."""
    return connection.execute(MOVED, [source, seconds]).fetchone() is not None


def set_position(connection: database.Connection, source: str, before: Any, reached: Any) -> None:
    """Notes how far the source has been counted: in the transaction of the counts.

    Raises `TurnLost` unless it was counted up to `before` (None: never), because another worker has gone on.
    """
    values = {"source": source, "before": before and json.dumps(before), "reached": json.dumps(reached)}
    if not connection.execute(SET_POSITION, values).rowcount:
        raise TurnLost(f"another worker has counted {source}")


def add_activity(connection: database.Connection, domain: str, notes: Iterable[Activity]) -> None:
    """Adds the readings of a domain's devices, each device and day once."""
    ordered = sorted(notes)
    if not ordered:
        return
    users, devices, days, messages, first, last, times = zip(*ordered, strict=True)
    values = {
        "domain": domain,
        "users": _texts(users),
        "devices": _texts(devices),
        "days": _numbers(days),
        "messages": _numbers(messages),
        "letters": _numbers([0] * len(ordered)),
        "first": _numbers(first),
        "last": _numbers(last),
        "times": _texts(map(str, times)),
        "skews": _numbers(one.skew_ms for one in ordered),
    }
    connection.execute(ADD_DEVICES, values)
    connection.execute(ADD_DAYS, values)


def add_refusals(connection: database.Connection, domain: str, refusals: Iterable[Refusals]) -> None:
    """Adds the refusals of a domain's devices, each device once."""
    ordered = sorted(refusals, key=lambda one: one[:2])
    if not ordered:
        return
    names = ("users", "devices", "first", "last", "refused", "types", "reasons", "_")
    connection.execute(ADD_REFUSALS, _columns(names, ordered) | {"domain": domain})
    days = [(*one[:2], day, 0, count) for one in ordered for day, count in one.days.items()]
    connection.execute(ADD_DAYS, _columns(("users", "devices", "days", "messages", "letters"), days))


def add_presence(connection: database.Connection, domain: str, said: Iterable[Said]) -> None:
    """Notes whether a domain's devices are there, each device once, unless the table has something newer."""
    ordered = sorted(said)
    if ordered:
        columns = _columns(("users", "devices", "online", "at"), ordered)
        connection.execute(ADD_PRESENCE, columns | {"domain": domain})


def add_counted(
    connection: database.Connection, domain: str, day: date, counted: dict[tuple[str, str], Counted]
) -> None:
    """Adds the rows of a day that were counted: a device has at least as many readings."""
    if not counted:
        return
    rows = [(*key, *one) for key, one in sorted(counted.items())]
    columns = _columns(("users", "devices", "messages", "firsts", "lasts"), rows)
    connection.execute(ADD_COUNTED, {"domain": domain, "day": day, **columns})


def _columns(names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


# A large fleet has a hundred thousand lines every half minute, and Psycopg takes 13 µs to write the lists of
# each.
def _numbers(values: Iterable[int]) -> str:
    """The literal of an array."""
    return f"{{{','.join(map(str, values))}}}"


def _texts(values: Iterable[str]) -> str:
    """The literal of an array of texts that hold no control character."""
    escaped = "\n".join(values).replace("\\", r"\\").replace('"', r"\"")
    return '{"' + escaped.replace("\n", '","') + '"}'
