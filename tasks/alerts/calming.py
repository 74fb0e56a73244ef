"""Alerts that flap and have been calm for long enough, found in `active_alerts` and settled by the clock.

The changes of alerts that are over, and no longer count towards flapping, are forgotten in the same way.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from psycopg.rows import class_row

from tasks.alerts import silence, state_store
from tasks.alerts.absences import FULL_SHARE
from tasks.alerts.last_seen import Device
from tasks.alerts.rule_cache import rule_sets, versioned
from tasks.domain.domain import AnyDomain
from tasks.domain.placement import about, for_device
from tasks.rules.lasting import calmed, due
from tasks.rules.machine import Changes
from tasks.rules.order import Newest
from tasks.rules.rule import Compiled
from tasks.rules.state import DeviceState, to_us
from tasks.servers import database
from tasks.servers.turns import Turn

AT_ONCE = 500
WAITING = """
SELECT user_id, device_id, rule_id, changed_at[cardinality(changed_at)] AS changed_at, judged, skew
FROM active_alerts
WHERE (user_id, device_id, rule_id) > (%s, %s, %s)
  AND changed_at IS NOT NULL AND status IN ('FLAPPING', 'RESOLVED')
  -- one domain's: those of the others have other prefixes
  AND starts_with(device_id, %s) AND strpos(substr(device_id, length(%s) + 1), '/') = 0
ORDER BY user_id, device_id, rule_id LIMIT %s
"""

# When this process may look again, by domain: looks take one twentieth of the time, however many rows wait.
_rests_until: dict[str, float] = {}

Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Waiting:
    user_id: str
    device_id: str
    rule_id: str
    changed_at: datetime
    judged: datetime | None
    skew: int | None

    @property
    def place(self) -> Place:
        return self.user_id, self.device_id, self.rule_id

    def is_due(self, rule: Compiled, now_ms: int) -> bool:
        within, last = rule.flapping.within if rule.flapping else 0, to_us(self.changed_at)
        if self.judged is None or rule.facts.operator == "absent":
            return last + within <= now_ms * 1000
        return due(Newest(to_us(self.judged), self.skew or 0), last, within) <= now_ms * 1000


def settle(domain: AnyDomain, turn: Turn, now_ms: int) -> int:
    """Ends the flapping of a domain's alerts that are calm; returns how many changes that made.

    Raises `psycopg.Error`, `redis.RedisError`, `KafkaException`, `NotNow`.
    """
    if time.monotonic() < _rests_until.get(domain.name, 0.0):
        return 0
    changes, looked_s, heard = 0, 0.0, None
    after: Place | None = ("", "", "")
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
        changes += state_store.by_present_rules(partial(_settle, domain, devices, heard))
    _rests_until[domain.name] = time.monotonic() + FULL_SHARE * looked_s
    return changes


def _waiting(domain: AnyDomain, after: Place) -> list[_Waiting]:
    with database.access() as connection, connection.cursor(row_factory=class_row(_Waiting)) as cursor:
        return cursor.execute(WAITING, [*after, domain.prefix, domain.prefix, AT_ONCE]).fetchall()


def _due(domain: AnyDomain, waiting: list[_Waiting], now_ms: int) -> list[Device]:
    own = rule_sets({one.user_id for one in waiting})
    rules = {user_id: about(domain, of_user) for user_id, of_user in own.items()}
    found: set[Device] = set()
    for one in waiting:
        rule = for_device(domain, rules[one.user_id], one.device_id).by_id.get(one.rule_id)
        if rule is not None and one.is_due(rule, now_ms):
            found.add((one.user_id, one.device_id))
    return sorted(found)


def _settle(domain: AnyDomain, devices: list[Device], heard: silence.Heard) -> int:
    in_use, version = versioned({user_id for user_id, _ in devices})
    rules = {user_id: about(domain, own) for user_id, own in in_use.items()}

    def decide(state: DeviceState) -> tuple[DeviceState, Changes]:
        own = for_device(domain, rules[state.user_id], state.device_id)
        return calmed(state, own, heard.until_ms, heard.since_ms)

    return len(state_store.transact(devices, decide, version))
