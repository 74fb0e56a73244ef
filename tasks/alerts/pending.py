"""Violations that last while no reading comes, found in `active_alerts` and triggered by the clock."""

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from psycopg.rows import class_row

from tasks.alerts import silence, state_store
from tasks.alerts.absences import FULL_SHARE
from tasks.alerts.last_seen import Device
from tasks.alerts.open_alerts import Rooms
from tasks.alerts.rule_cache import rule_sets, versioned
from tasks.domain.domain import AnyDomain
from tasks.domain.placement import about, for_device
from tasks.rules.lasting import due, lasted
from tasks.rules.machine import Changes
from tasks.rules.order import Newest
from tasks.rules.rule import Compiled
from tasks.rules.state import DeviceState, to_us
from tasks.servers import database
from tasks.servers.turns import Turn

AT_ONCE = 500
PENDING = """
SELECT user_id, device_id, rule_id, first_seen, judged, skew, count FROM active_alerts
WHERE (first_seen, user_id, device_id, rule_id) > (%s::timestamptz, %s, %s, %s)
  AND status = 'PENDING' AND alert_id IS NULL AND first_seen IS NOT NULL AND judged IS NOT NULL
  -- one domain's: those of the others have other prefixes
  AND starts_with(device_id, %s) AND strpos(substr(device_id, length(%s) + 1), '/') = 0
ORDER BY first_seen, user_id, device_id, rule_id LIMIT %s
"""

# When this process may look again, by domain: looks take one twentieth of the time, however many rows wait.
_rests_until: dict[str, float] = {}


Place = tuple[datetime | str, str, str, str]
_BEGINNING: Place = ("-infinity", "", "", "")


@dataclass(frozen=True, slots=True)
class _Waiting:
    user_id: str
    device_id: str
    rule_id: str
    first_seen: datetime
    judged: datetime
    skew: int | None
    count: int

    @property
    def place(self) -> Place:
        return self.first_seen, self.user_id, self.device_id, self.rule_id

    def is_due(self, rule: Compiled, now_ms: int) -> bool:
        if not rule.for_us or self.count < rule.for_readings:
            return False
        newest = Newest(to_us(self.judged), self.skew or 0)
        return due(newest, to_us(self.first_seen), rule.for_us) <= now_ms * 1000


def trigger_lasting(domain: AnyDomain, turn: Turn, now_ms: int) -> int:
    """Triggers alerts of a domain whose violations have lasted; returns how many changes that made.

    Raises `psycopg.Error`, `redis.RedisError`, `KafkaException`, `NotNow`.
    """
    if time.monotonic() < _rests_until.get(domain.name, 0.0):
        return 0
    changes, looked_s, heard = 0, 0.0, None
    after: Place | None = _BEGINNING
    while after is not None:
        turn.keep()
        started = time.monotonic()
        waiting = _waiting(domain, after)
        devices = _due(domain, waiting, now_ms)
        looked_s += time.monotonic() - started
        after = waiting[-1].place if len(waiting) == AT_ONCE else None
        if not devices:
            continue
        heard = heard or silence.heard(now_ms, domain)
        if heard is None:
            break
        changes += state_store.by_present_rules(partial(_trigger, domain, devices, heard))
    _rests_until[domain.name] = time.monotonic() + FULL_SHARE * looked_s
    return changes


def _waiting(domain: AnyDomain, after: Place) -> list[_Waiting]:
    with database.access() as connection, connection.cursor(row_factory=class_row(_Waiting)) as cursor:
        return cursor.execute(PENDING, [*after, domain.prefix, domain.prefix, AT_ONCE]).fetchall()


def _due(domain: AnyDomain, waiting: list[_Waiting], now_ms: int) -> list[Device]:
    own = rule_sets({one.user_id for one in waiting})
    rules = {user_id: about(domain, of_user) for user_id, of_user in own.items()}
    found: set[Device] = set()
    for one in waiting:
        rule = for_device(domain, rules[one.user_id], one.device_id).by_id.get(one.rule_id)
        if rule is not None and one.is_due(rule, now_ms):
            found.add((one.user_id, one.device_id))
    return sorted(found)


def _trigger(domain: AnyDomain, devices: list[Device], heard: silence.Heard) -> int:
    in_use, version = versioned({user_id for user_id, _ in devices})
    rules = {user_id: about(domain, own) for user_id, own in in_use.items()}
    rooms = Rooms()

    def decide(state: DeviceState) -> tuple[DeviceState, Changes]:
        room = rooms.left(state.user_id)
        own = for_device(domain, rules[state.user_id], state.device_id)
        return lasted(state, own, heard.until_ms, heard.since_ms, room)

    return len(state_store.transact(devices, decide, version, rooms))
