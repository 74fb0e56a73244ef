"""When each device last sent something: searched by that time, and restored when Redis has lost it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import structlog
from psycopg import sql

from tasks.domain.domain import AnyDomain
from tasks.rules.machine import LastSeen
from tasks.rules.model import MAX_SECONDS
from tasks.rules.rule import RuleSet
from tasks.rules.state import to_us
from tasks.servers import database
from tasks.servers.redis_client import LAST_SEEN, LAST_SEEN_READY, client, server_run, text
from tasks.servers.table_names import names

log = structlog.get_logger()

Device = tuple[str, str]

# No rule waits longer than this, so a longer silence was announced long ago.
FORGET_MS = (MAX_SECONDS + 86_400) * 1000
# The clock of a gateway may be ahead by this much and still counts as right.
AHEAD_MS = 2000
TIDY_AT_ONCE = 10_000
RANGES_AT_ONCE = 500
STATEMENT_SECONDS = 60

OPEN_ABSENCES = """
SELECT user_id, device_id, key, first_seen FROM active_alerts
WHERE user_id = ANY(%s) AND operator = 'absent' AND alert_id IS NOT NULL AND first_seen IS NOT NULL
  AND (status IN ('TRIGGERED', 'SNOOZED') OR status = 'FLAPPING' AND violated)
  -- one domain's: those of the others have other prefixes
  AND starts_with(device_id, %s) AND strpos(substr(device_id, length(%s) + 1), '/') = 0
"""
# From device to device along the index, without reading the rows of each.
DEVICES = """
WITH RECURSIVE device (id) AS (
    (SELECT {source} FROM {table}
     WHERE {owner} = %(user)s AND {time} > now() - interval '31 days' ORDER BY {source} LIMIT 1)
    UNION ALL
    SELECT (SELECT {source} FROM {table}
            WHERE {owner} = %(user)s AND {source} > device.id AND {time} > now() - interval '31 days'
            ORDER BY {source} LIMIT 1)
    FROM device WHERE device.id IS NOT NULL
)
SELECT id FROM device WHERE id IS NOT NULL
"""


def was_seen(domain: AnyDomain, device: Device) -> bool:
    """Whether the device has sent something that is not forgotten. Raises `redis.RedisError`."""
    return client().zscore(domain.qualified(LAST_SEEN), _member(device, "")) is not None


def tidy(domain: AnyDomain, now_ms: int) -> None:
    """Forgets devices that are gone for good, and sets last-seen times in the future to now.

    Otherwise a time from a wrong clock would stay the newest, and no absence be noticed until it has passed.
    Raises `redis.RedisError`.
    """
    key = domain.qualified(LAST_SEEN)
    client().zremrangebyscore(key, "-inf", now_ms - FORGET_MS)
    ahead: Any = client().zrangebyscore(key, now_ms + AHEAD_MS, "+inf", start=0, num=TIDY_AT_ONCE)
    if ahead:
        client().zadd(key, dict.fromkeys(ahead, now_ms), xx=True)


def fell_silent(
    domain: AnyDomain, rules: Mapping[str, RuleSet], judged_ms: int, since_ms: int, until_ms: int
) -> set[Device]:
    """Devices that became absent by a rule, if it is about them, after `judged_ms`, up to `until_ms`.

    Silence counts from `since_ms` on. Raises `redis.RedisError`.
    """
    waits = {wait for one in rules.values() for of_key in one.absence_waits.values() for wait in of_key}
    found: set[Device] = set()
    ranges = passed(waits, judged_ms, since_ms, until_ms)
    for first in range(0, len(ranges), RANGES_AT_ONCE):
        commands = client().pipeline(transaction=False)
        for earliest, latest in ranges[first : first + RANGES_AT_ONCE]:
            commands.zrangebyscore(domain.qualified(LAST_SEEN), f"({earliest}", latest)
        for members in commands.execute():
            found |= {device for member in members if (device := _parse(text(member))[0])[0] in rules}
    return found


def passed(waits: set[int], judged_ms: int, since_ms: int, until_ms: int) -> list[tuple[float, int]]:
    """The times that a wait has passed in this look, after the first and up to the second of each pair.

    No time is in two of them: a user may have thousands of waits, and a member is to be read once.
    """
    merged: list[tuple[float, int]] = []
    for wait in sorted(waits, reverse=True):
        latest = until_ms - wait
        if latest < since_ms:
            continue
        # Once the wait after an outage ends, every device not heard since counts, however long ago it was.
        earliest = judged_ms - wait if judged_ms - wait >= since_ms else float("-inf")
        if merged and earliest <= merged[-1][1]:
            earliest = merged.pop()[0]
        merged.append((earliest, latest))
    return merged


def silent(domain: AnyDomain, rules: Mapping[str, RuleSet], until_ms: int) -> set[Device]:
    """Every device that is absent by a rule, if it is about it, for whatever time.

    Raises `redis.RedisError`.
    """
    waits = {
        (user_id, key): min(of_key)
        for user_id, one in rules.items()
        for key, of_key in one.absence_waits.items()
    }
    found: set[Device] = set()
    for member, seen_ms in client().zscan_iter(domain.qualified(LAST_SEEN), count=1000):
        device, key_name = _parse(text(member))
        wait = waits.get((device[0], key_name))
        if wait is not None and seen_ms <= until_ms - wait:
            found.add(device)
    return found


def open_absences(domain: AnyDomain, users: Iterable[str]) -> dict[Device, dict[str, int]]:
    """The open absences in `active_alerts`: the device's own by the key "", those of values by their keys,
    each with the time (ms) when it began. Raises `psycopg.Error`.
    """
    found: dict[Device, dict[str, int]] = {}
    values = [list(users), domain.prefix, domain.prefix]
    with database.access() as connection:
        rows = connection.execute(OPEN_ABSENCES, values).fetchall()
    for user_id, device_id, key, first_seen in rows:
        assert isinstance(first_seen, datetime)
        absences = found.setdefault((str(user_id), str(device_id)), {})
        absences[str(key or "")] = to_us(first_seen) // 1000
    return found


def read(domain: AnyDomain, devices: list[Device], rules: Mapping[str, RuleSet]) -> dict[Device, LastSeen]:
    """The last-seen times of the devices, and of the values with absence rules; only of known devices.

    Raises `redis.RedisError`.
    """
    members = [(device, key) for device in devices for key in ("", *sorted(rules[device[0]].absent_keys))]
    names = [_member(device, key) for device, key in members]
    scores = client().zmscore(domain.qualified(LAST_SEEN), names) if names else []
    times: dict[Device, dict[str, int]] = {}
    for (device, key), score in zip(members, scores, strict=True):
        if score is not None:
            times.setdefault(device, {})[key] = int(score)
    return {device: LastSeen(seen.pop(""), seen) for device, seen in times.items() if "" in seen}


def add(domain: AnyDomain, since: Mapping[Device, int]) -> int:
    """Has the silence of devices count from these times (ms) on; returns how many were not known before.

    A device that is known already stays as it is. Raises `redis.RedisError`.
    """
    if not since:
        return 0
    members = {_member(device, ""): ms for device, ms in since.items()}
    added: Any = client().zadd(domain.qualified(LAST_SEEN), members, nx=True)
    return int(added)


def bring_back(domain: AnyDomain, users: Iterable[str], now_ms: int) -> None:
    """When the times are lost, or never existed, counts silence of these users' known devices from now on.

    An open absence goes on. It is unknown which values a device sends: they can be absent once they have come
    again. Raises `redis.RedisError` and `psycopg.Error`; then nothing may be judged.
    """
    marker = client().get(domain.qualified(LAST_SEEN_READY))
    if marker is not None and marker == server_run():
        return
    if marker is not None:
        # The server was restarted and has loaded old times: all devices would look silent.
        client().unlink(domain.qualified(LAST_SEEN))
    users = list(users)
    seen: dict[str, float] = {}
    with database.access() as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        for user_id in users:
            for (source_id,) in cursor.execute(_devices(domain), {"user": user_id}):
                seen[_member((user_id, f"{domain.prefix}{source_id}"), "")] = now_ms
    for device, absences in open_absences(domain, users).items():
        seen.setdefault(_member(device, ""), now_ms)
        seen |= {_member(device, key): since_ms for key, since_ms in absences.items()}
    pipeline = client().pipeline(transaction=True)
    if seen:
        # A time that exists already has come since, and is newer.
        pipeline.zadd(domain.qualified(LAST_SEEN), seen, nx=True)
    pipeline.set(domain.qualified(LAST_SEEN_READY), server_run())
    pipeline.execute()
    log.info("last_seen_brought_back", domain=domain.name, devices=len(seen), users=len(users))


def _devices(domain: AnyDomain) -> sql.Composed:
    return sql.SQL(DEVICES).format(**names(domain))


def _member(device: Device, key: str) -> str:
    name = f"{device[0]}/{device[1]}"
    return f"{name}\0{key}" if key else name


def _parse(member: str) -> tuple[Device, str]:
    name, _, key = member.partition("\0")
    user_id, _, device_id = name.partition("/")
    return (user_id, device_id), key
