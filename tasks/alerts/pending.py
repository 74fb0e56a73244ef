"""Violations that last while no reading comes, found in `active_alerts` and triggered by the clock."""

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from psycopg.rows import class_row

from tasks.alerts import silence, state_store
from tasks.alerts.absences import AT_ONCE, FULL_SHARE, some
from tasks.alerts.last_seen import Device
from tasks.alerts.open_alerts import Rooms
from tasks.alerts.rule_cache import rule_sets, versioned
from tasks.domain.domain import AnyDomain
from tasks.domain.placement import about, for_device
from tasks.rules.lasting import due, lasted
from tasks.rules.machine import Changes
from tasks.rules.order import Newest
from tasks.rules.state import DeviceState, to_us
from tasks.servers import database
from tasks.servers.turns import Turn

PENDING = """
SELECT user_id, device_id, rule_id, first_seen, judged, skew FROM active_alerts
WHERE status = 'PENDING' AND alert_id IS NULL AND first_seen IS NOT NULL AND judged IS NOT NULL
  -- one domain's: those of the others have other prefixes
  AND starts_with(device_id, %s) AND strpos(substr(device_id, length(%s) + 1), '/') = 0
"""

# When this process may look again, by domain: looks take one twentieth of the time, however many rows wait.
_rests_until: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class _Waiting:
    user_id: str
    device_id: str
    rule_id: str
    first_seen: datetime
    judged: datetime
    skew: int | None

    def is_due(self, for_us: int, now_ms: int) -> bool:
        newest = Newest(to_us(self.judged), self.skew or 0)
        return due(newest, to_us(self.first_seen), for_us) <= now_ms * 1000


def trigger_lasting(domain: AnyDomain, turn: Turn, now_ms: int) -> int:
    """Triggers alerts of a domain whose violations have lasted; returns how many changes that made.

    Raises `psycopg.Error`, `redis.RedisError`, `KafkaException`, `NotNow`.
    """
    started = time.monotonic()
    if started < _rests_until.get(domain.name, 0.0):
        return 0
    devices = _due(domain, now_ms)
    ended = time.monotonic()
    _rests_until[domain.name] = ended + FULL_SHARE * (ended - started)
    heard = silence.heard(now_ms, domain) if devices else None
    if heard is None:
        return 0
    changes = 0
    for few in some(devices, AT_ONCE):
        turn.keep()
        changes += state_store.by_present_rules(partial(_trigger, domain, few, heard))
    return changes


def _due(domain: AnyDomain, now_ms: int) -> set[Device]:
    with database.access() as connection, connection.cursor(row_factory=class_row(_Waiting)) as cursor:
        waiting = cursor.execute(PENDING, [domain.prefix, domain.prefix]).fetchall()
    own = rule_sets({one.user_id for one in waiting})
    rules = {user_id: about(domain, of_user) for user_id, of_user in own.items()}
    found: set[Device] = set()
    for one in waiting:
        rule = for_device(domain, rules[one.user_id], one.device_id).by_id.get(one.rule_id)
        if rule is not None and rule.for_us and one.is_due(rule.for_us, now_ms):
            found.add((one.user_id, one.device_id))
    return found


def _trigger(domain: AnyDomain, devices: list[Device], heard: silence.Heard) -> int:
    in_use, version = versioned({user_id for user_id, _ in devices})
    rules = {user_id: about(domain, own) for user_id, own in in_use.items()}
    rooms = Rooms()

    def decide(state: DeviceState) -> tuple[DeviceState, Changes]:
        room = rooms.left(state.user_id)
        own = for_device(domain, rules[state.user_id], state.device_id)
        return lasted(state, own, heard.until_ms, heard.since_ms, room)

    return len(state_store.transact(devices, decide, version, rooms))
