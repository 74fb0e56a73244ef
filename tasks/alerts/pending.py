"""Violations that last while no reading comes, found in `active_alerts` and triggered by the clock."""

from dataclasses import dataclass
from datetime import datetime

from tasks.alerts import by_clock, silence, state_store
from tasks.alerts.alert_room import Rooms
from tasks.alerts.last_seen import Device
from tasks.domain.domain import AnyDomain
from tasks.rules.lasting import due, lasted
from tasks.rules.machine import Changes
from tasks.rules.order import Newest
from tasks.rules.rule import Compiled
from tasks.rules.state import DeviceState, to_us
from tasks.servers.turns import Turn

PENDING = """
SELECT user_id, device_id, rule_id, first_seen, judged, skew, count FROM active_alerts
WHERE (first_seen, user_id, device_id, rule_id) > (%s::timestamptz, %s, %s, %s)
  AND status = 'PENDING' AND alert_id IS NULL AND first_seen IS NOT NULL AND judged IS NOT NULL
  -- one domain's: those of the others have other prefixes
  AND starts_with(device_id, %s) AND strpos(substr(device_id, length(%s) + 1), '/') = 0
ORDER BY first_seen, user_id, device_id, rule_id LIMIT %s
"""


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
    def place(self) -> by_clock.Place:
        return self.first_seen, self.user_id, self.device_id, self.rule_id

    def is_due(self, rule: Compiled, now_ms: int) -> bool:
        if not rule.for_us or self.count < rule.for_readings:
            return False
        newest = Newest(to_us(self.judged), self.skew or 0)
        return due(newest, to_us(self.first_seen), rule.for_us) <= now_ms * 1000


_LOOK = by_clock.Look(PENDING, _Waiting, ("-infinity", "", "", ""))


def trigger_lasting(domain: AnyDomain, turn: Turn, now_ms: int) -> int:
    """Triggers alerts of a domain whose violations have lasted; returns how many changes that made.

    Raises `psycopg.Error`, `redis.RedisError`, `KafkaException`, `NotNow`.
    """
    return _LOOK.judge(domain, turn, now_ms, _trigger)


def _trigger(domain: AnyDomain, devices: list[Device], heard: silence.Heard) -> int:
    rules, version = by_clock.present_rules(domain, devices)
    rooms = Rooms()

    def decide(state: DeviceState) -> tuple[DeviceState, Changes]:
        room = rooms.left(state.user_id)
        return lasted(state, rules(state), heard.until_ms, heard.since_ms, room)

    return len(state_store.transact(devices, decide, version, rooms))
