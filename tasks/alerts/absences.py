"""Devices that fall silent, and snoozes that end: changes of alerts that no reading causes.

Most looks check only what the last second changed. A full look, every ten seconds or more, finds the rest: a
rule that is new or was enabled again, a return that was judged before the absence was.
"""

import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import psycopg
import structlog

from tasks.alerts import last_seen, never_seen, silence, state_store
from tasks.alerts.alert_room import Rooms
from tasks.alerts.last_seen import Device
from tasks.alerts.rule_cache import rule_sets, versioned
from tasks.domain.domain import AnyDomain
from tasks.domain.placement import about, for_device
from tasks.rules import machine
from tasks.rules.everyone import EVERYONE
from tasks.rules.rule import RuleSet
from tasks.rules.state import DeviceState
from tasks.servers import database
from tasks.servers.redis_client import CLOCK, RULES_VERSION, client, text
from tasks.servers.turns import Turn

log = structlog.get_logger()

AT_ONCE = 500
FULL_EVERY_MS = 10_000

# A full look may take one twentieth of the time.
FULL_SHARE = 20

# With such a rule of the operator's, all who have sent something; from user to user along the index.
USERS = """
WITH RECURSIVE sender (id) AS (
    (SELECT user_id FROM devices
     WHERE EXISTS (SELECT FROM user_configs
                   WHERE user_id = %(everyone)s AND rules @> '[{"operator": "absent"}]')
     ORDER BY user_id LIMIT 1)
    UNION ALL
    SELECT (SELECT user_id FROM devices WHERE user_id > sender.id ORDER BY user_id LIMIT 1)
    FROM sender WHERE sender.id IS NOT NULL
)
SELECT id FROM sender WHERE id IS NOT NULL
UNION
SELECT user_id FROM user_configs WHERE rules @> '[{"operator": "absent"}]' AND user_id <> %(everyone)s
"""

SNOOZED = """
SELECT DISTINCT user_id, device_id FROM active_alerts WHERE snoozed_until <= %s
"""

# The users with absence rules, cached by this process: one entry, by version of the rules and minute.
_users: dict[tuple[str, int], frozenset[str]] = {}


class Looked(NamedTuple):
    """How far the clock has judged a domain."""

    judged_ms: int
    full_ms: int
    full_cost_ms: int
    rules_version: str


def end_snoozes(turn: Turn, now_ms: int) -> int:
    """Ends the snoozes that are over according to `active_alerts`; returns how many changes that made.

    While the database is away, the next reading of the device ends them. Raises `psycopg.Error`,
    `redis.RedisError`, `NotNow`.
    """
    with database.access() as connection:
        rows = connection.execute(SNOOZED, [datetime.fromtimestamp(now_ms / 1000, UTC)]).fetchall()
    changes = 0
    for devices in _some({(str(user_id), str(device_id)) for user_id, device_id in rows}):
        turn.keep()
        changes += len(state_store.transact(devices, lambda state: machine.snoozes_ended(state, now_ms)))
    return changes


def judge_absences(domain: AnyDomain, turn: Turn, now_ms: int) -> int:
    """Judges the devices of a domain that may be absent by the rules; returns how many changes that made.

    Raises `psycopg.Error`, `redis.RedisError`, `KafkaException`, `NotNow`.
    """
    last_seen.tidy(domain, now_ms)
    version = text(client().get(RULES_VERSION) or b"")
    users = _users_with_absences(version, now_ms)
    if not users:
        return 0
    heard = silence.heard(now_ms, domain)
    if heard is None:
        return 0
    of_domain = {user_id: about(domain, own) for user_id, own in rule_sets(users).items()}
    rules = {user_id: own for user_id, own in of_domain.items() if own.absences}
    last_seen.bring_back(domain, rules, now_ms)
    looked = _remembered(domain)
    if looked is None or _full_is_due(looked, version, now_ms):
        started = time.monotonic()
        _note_never_seen(domain, rules, now_ms)
        devices = last_seen.silent(domain, rules, heard.until_ms) | _announced(domain, rules)
        changes = _judge(domain, turn, devices, heard)
        cost_ms = round((time.monotonic() - started) * 1000)
        _remember(domain, Looked(heard.until_ms, now_ms, cost_ms, version))
    else:
        devices = last_seen.fell_silent(domain, rules, looked.judged_ms, *heard)
        changes = _judge(domain, turn, devices, heard)
        _remember(domain, looked._replace(judged_ms=heard.until_ms))
    return changes


def _judge(domain: AnyDomain, turn: Turn, devices: set[Device], heard: silence.Heard) -> int:
    changes = 0
    for few in _some(devices):
        turn.keep()
        changes += state_store.by_present_rules(partial(_judge_some, domain, few, heard))
    return changes


def _judge_some(domain: AnyDomain, devices: list[Device], heard: silence.Heard) -> int:
    in_use, version = versioned({user_id for user_id, _ in devices})
    rules = {user_id: about(domain, own) for user_id, own in in_use.items()}
    seen = last_seen.read(domain, devices, rules)
    rooms = Rooms()

    def decide(state: DeviceState) -> tuple[DeviceState, machine.Changes]:
        own, room = seen[state.user_id, state.device_id], rooms.left(state.user_id)
        in_force = for_device(domain, rules[state.user_id], state.device_id)
        return machine.absent(state, in_force, own, heard.until_ms, heard.since_ms, room)

    return len(state_store.transact(list(seen), decide, version, rooms))


def _announced(domain: AnyDomain, rules: dict[str, RuleSet]) -> set[Device]:
    """Devices whose absence was announced; none without the database: a later full look finds them."""
    try:
        return set(last_seen.open_absences(domain, rules))
    except psycopg.Error as error:
        log.warning("open_absences_unknown", error=str(error).strip())
        return set()


def _note_never_seen(domain: AnyDomain, rules: dict[str, RuleSet], now_ms: int) -> None:
    """Those that are not found without the database are found by a later full look."""
    try:
        never_seen.note(domain, rules, now_ms)
    except psycopg.Error as error:
        log.warning("never_seen_unknown", error=str(error).strip())


def _full_is_due(looked: Looked, version: str, now_ms: int) -> bool:
    pause_ms = max(FULL_EVERY_MS, FULL_SHARE * looked.full_cost_ms)
    return version != looked.rules_version or now_ms - looked.full_ms >= pause_ms


def _users_with_absences(version: str, now_ms: int) -> frozenset[str]:
    # The minute limits the age of the answer where a change did not raise the version.
    known = (version, now_ms // 60_000)
    if known not in _users:
        try:
            with database.access() as connection:
                users = frozenset(
                    str(user_id) for (user_id,) in connection.execute(USERS, {"everyone": EVERYONE})
                )
        except psycopg.Error as error:
            if not _users:
                raise
            log.warning("users_with_absences_unknown", error=str(error).strip())
            (users,) = _users.values()
        _users.clear()
        _users[known] = users
    return _users[known]


def _remembered(domain: AnyDomain) -> Looked | None:
    kept = {text(name): text(value) for name, value in client().hgetall(domain.qualified(CLOCK)).items()}
    if not kept:
        return None
    return Looked(
        int(kept["judged_ms"]), int(kept["full_ms"]), int(kept["full_cost_ms"]), kept["rules_version"]
    )


def _remember(domain: AnyDomain, looked: Looked) -> None:
    fields: dict[Any, Any] = looked._asdict()
    client().hset(domain.qualified(CLOCK), mapping=fields)


def _some(devices: Collection[Device]) -> Iterator[list[Device]]:
    rest = iter(sorted(devices))
    while few := list(islice(rest, AT_ONCE)):
        yield few
