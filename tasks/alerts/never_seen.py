"""Devices that have never sent anything, though they should: missed as if silent from the beginning.

They are those with an account, in the default domain, and those that an absence rule names in `devices`,
themselves or by a group, not by a pattern. The time of their account, or of later rules, takes
the place of a reading.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog

from tasks import registry
from tasks.alerts.last_seen import FORGET_MS, Device, add
from tasks.domain.domain import AnyDomain
from tasks.rules.devices import named
from tasks.rules.everyone import EVERYONE
from tasks.rules.rule import RuleSet
from tasks.servers import database
from tasks.settings import settings

log = structlog.get_logger()

AT_ONCE = 5_000
STATEMENT_SECONDS = 60

# The registry has who ever sent something. An absence that is open has the time of its beginning.
NEVER_SEEN = """
SELECT expected.user_id, expected.device_id,
       (extract(epoch FROM greatest(
           expected.since, own.updated_at, everyones.updated_at, to_timestamp(0)
       )) * 1000)::bigint
FROM (
    SELECT user_id COLLATE "C" AS user_id, device_id COLLATE "C" AS device_id, max(since) AS since
    FROM (
        SELECT user_id, %(prefix)s || device_id AS device_id, created_at AS since FROM mqtt_users
        WHERE %(accounts)s AND kind = 'device' AND enabled AND user_id = ANY(%(users)s)
        UNION ALL
        SELECT user_id, device_id, '-infinity' FROM unnest(%(owners)s::text[], %(names)s::text[])
            AS named (user_id, device_id)
    ) AS each
    GROUP BY 1, 2
) AS expected
LEFT JOIN user_configs AS own ON own.user_id = expected.user_id
LEFT JOIN user_configs AS everyones ON everyones.user_id = %(everyone)s
WHERE (expected.user_id, expected.device_id) > (%(user)s, %(device)s)
  AND NOT EXISTS (SELECT FROM devices
                  WHERE (devices.user_id, devices.device_id) = (expected.user_id, expected.device_id))
  AND NOT EXISTS (SELECT FROM active_alerts AS open
                  WHERE (open.user_id, open.device_id) = (expected.user_id, expected.device_id)
                    AND open.operator = 'absent')
ORDER BY expected.user_id, expected.device_id LIMIT %(limit)s
"""


def note(domain: AnyDomain, rules: Mapping[str, RuleSet], now_ms: int) -> None:
    """Has the silence of these users' devices that have never been seen count, with ABSENT_NEVER_SEEN.

    A device that is known already stays as it is. Raises `psycopg.Error`, `redis.RedisError`.
    """
    if not settings().absent_never_seen:
        return
    whole = {user_id: own for user_id, own in rules.items() if "" in own.absence_waits}
    for some in _expected(domain, whole):
        since = {
            (user_id, device_id): min(since_ms, now_ms)
            for user_id, device_id, since_ms in some
            # A longer silence was announced long ago.
            if since_ms > now_ms - FORGET_MS and _concerned(whole[user_id], domain.source_id(device_id))
        }
        added = add(domain, since)
        if added:
            log.info("never_seen_noted", domain=domain.name, devices=added)


def _expected(domain: AnyDomain, rules: Mapping[str, RuleSet]) -> Iterator[list[tuple[str, str, int]]]:
    named = [(user_id, f"{domain.prefix}{name}") for user_id, own in rules.items() for name in literal(own)]
    values = {
        "prefix": domain.prefix,
        "accounts": domain is registry.default(),
        "users": list(rules),
        "owners": [user_id for user_id, _ in named],
        "names": [name for _, name in named],
        "everyone": EVERYONE,
        "limit": AT_ONCE,
    }
    last: Device = ("", "")
    while rules:
        with database.access() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            page = {"user": last[0], "device": last[1]}
            found: list[tuple[Any, ...]] = cursor.execute(NEVER_SEEN, values | page).fetchall()
        yield [(str(user_id), str(device_id), int(ms)) for user_id, device_id, ms in found]
        if len(found) < AT_ONCE:
            return
        last = str(found[-1][0]), str(found[-1][1])


def literal(own: RuleSet) -> Iterable[str]:
    """The devices that absence rules without a key name, not by a pattern."""
    return sorted(
        {
            name
            for rule in own.rules
            if rule.operator == "absent" and rule.key is None and rule.devices is not None
            for name in named(rule.devices, own.groups)
        }
    )


def _concerned(own: RuleSet, source_id: str) -> bool:
    return "" in own.of_device(source_id).absence_waits
