"""Alerts that flap and have been calm for long enough, found in `active_alerts` and settled by the clock.

The changes of alerts that are over, and no longer count towards flapping, are forgotten in the same way.
"""

from dataclasses import dataclass
from datetime import datetime

from tasks.alerts import by_clock, silence, state_store
from tasks.alerts.last_seen import Device
from tasks.domain.domain import AnyDomain
from tasks.rules.lasting import calmed, due
from tasks.rules.order import Newest
from tasks.rules.rule import Compiled
from tasks.rules.state import to_us
from tasks.servers.turns import Turn

WAITING = """
SELECT user_id, device_id, rule_id, changed_at[cardinality(changed_at)] AS changed_at, judged, skew
FROM active_alerts
WHERE (user_id, device_id, rule_id) > (%s, %s, %s)
  AND changed_at IS NOT NULL AND status IN ('FLAPPING', 'RESOLVED')
  -- one domain's: those of the others have other prefixes
  AND starts_with(device_id, %s) AND strpos(substr(device_id, length(%s) + 1), '/') = 0
ORDER BY user_id, device_id, rule_id LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class _Waiting:
    user_id: str
    device_id: str
    rule_id: str
    changed_at: datetime
    judged: datetime | None
    skew: int | None

    @property
    def place(self) -> by_clock.Place:
        return self.user_id, self.device_id, self.rule_id

    def is_due(self, rule: Compiled, now_ms: int) -> bool:
        within, last = rule.flapping.within if rule.flapping else 0, to_us(self.changed_at)
        if self.judged is None or rule.facts.operator == "absent":
            return last + within <= now_ms * 1000
        return due(Newest(to_us(self.judged), self.skew or 0), last, within) <= now_ms * 1000


_LOOK = by_clock.Look(WAITING, _Waiting, ("", "", ""))


def settle(domain: AnyDomain, turn: Turn, now_ms: int) -> int:
    """Ends the flapping of a domain's alerts that are calm; returns how many changes that made.

    Raises `psycopg.Error`, `redis.RedisError`, `KafkaException`, `NotNow`.
    """
    return _LOOK.judge(domain, turn, now_ms, _settle)


def _settle(domain: AnyDomain, devices: list[Device], heard: silence.Heard) -> int:
    rules, version = by_clock.present_rules(domain, devices)
    return len(
        state_store.transact(
            devices, lambda state: calmed(state, rules(state), heard.until_ms, heard.since_ms), version
        )
    )
