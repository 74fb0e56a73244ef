"""One device under test: sends readings, obeys commands, and keeps what its user was told."""

from datetime import timedelta
from typing import Any

from tasks.rules.change import Change
from tasks.rules.commands import Origin, manage, parse_command
from tasks.rules.lasting import calmed, lasted
from tasks.rules.machine import LastSeen, Observation, absent, rules_changed, snoozes_ended, step
from tasks.rules.parsing import parse_rules
from tasks.rules.rule import NO_RULES, RuleSet
from tasks.rules.state import EPOCH, DeviceState, RuleState

# The second at which tests begin, so that they may count from 0.
START = 1_777_629_600


def rule(operator: str = ">", threshold: float | None = 30, **fields: Any) -> dict[str, Any]:
    """A rule about `t`, too hot above 30 unless said otherwise."""
    given = {"key": "t", "operator": operator, "threshold": threshold, "message": "too hot"} | fields
    return {name: value for name, value in given.items() if value is not None}


class Device:
    """Drives the machine as the evaluation does. Times are seconds since the test began."""

    def __init__(self, *rules: dict[str, Any]) -> None:
        self.state = DeviceState("u", "d")
        self.rules: RuleSet = parse_rules(list(rules)) if rules else NO_RULES
        self.offset = 0
        self.commands = 0
        self.sent: list[Observation] = []
        self.changes: list[Change] = []
        self.most: int | None = None  # alerts that may be open

    @property
    def room(self) -> int | None:
        """How many more may be open."""
        return None if self.most is None else self.most - self.state.open_alerts

    def reading(
        self,
        payload: dict[str, Any],
        at: float,
        time: float | None = None,
        partition: int = 0,
        key: int | None = None,
        *,
        redelivered: bool = False,
    ) -> Observation:
        """The next record: produced at `at`, measured at `time`, with a key of its own or another's."""
        self.offset += 1
        key = self.offset if key is None else key
        measured = EPOCH + timedelta(seconds=START + (at if time is None else time))
        return Observation(
            partition,
            self.offset,
            round((START + at) * 1000),
            measured,
            100 + self.offset,
            payload,
            key=key,
            redelivered=redelivered,
        )

    def send(
        self,
        value: Any,
        at: float,
        time: float | None = None,
        key: int | None = None,
        *,
        redelivered: bool = False,
    ) -> list[str]:
        """Sends a value of `t`, or a whole payload. Returns the changes that the user gets, as statuses."""
        payload = value if isinstance(value, dict) else {"t": value}
        self.sent.append(self.reading(payload, at, time, key=key, redelivered=redelivered))
        return self.judge(self.sent[-1])

    def judge(self, *readings: Observation) -> list[str]:
        """Judges records, new ones or again."""
        told: list[Change] = []
        for reading in readings:
            self.state, changes = step(self.state, self.rules, reading, self.room)
            told += changes
        return self._tell(told)

    def command(self, action: str, at: float, minutes: float | None = None, **named: Any) -> list[str]:
        """Obeys a command about the rule `t`; raises what `manage` raises."""
        self.commands += 1
        document = {"device_id": "d", "rule_id": named.get("rule_id", "t"), "action": action}
        note = {"note": named["note"]} if named.get("note") else {}
        command = parse_command(document | note | {"duration_minutes": minutes})
        command_id = named.get("command_id", f"c{self.commands}")
        origin = Origin(command_id, round((START + at) * 1000), named.get("by", "anna"))
        self.state, changes = manage(self.state, self.rules, command, origin)
        return self._tell(changes)

    def tick(self, now: float, seen: float = 0, listening: float | None = -1e6, **keys: float) -> list[str]:
        """The clock: ends snoozes, triggers what has lasted, calms, and judges silence since `seen`."""
        now_ms = round((START + now) * 1000)
        self.state, changes = snoozes_ended(self.state, now_ms)
        told = list(changes)
        since = None if listening is None else round((START + listening) * 1000)
        self.state, changes = lasted(self.state, self.rules, now_ms, since, self.room)
        told += changes
        self.state, changes = calmed(self.state, self.rules, now_ms, since)
        told += changes
        last_seen = LastSeen(
            round((START + seen) * 1000), {key: round((START + at) * 1000) for key, at in keys.items()}
        )
        self.state, changes = absent(self.state, self.rules, last_seen, now_ms, since, self.room)
        return self._tell([*told, *changes])

    def change_rules(self, *rules: dict[str, Any], at: float | None = None) -> list[str]:
        """Other rules: without `at` they are noticed at the next reading."""
        self.rules = parse_rules(list(rules)).of_device("d")
        if at is None:
            return []
        self.state, changes = rules_changed(self.state, self.rules, round((START + at) * 1000))
        return self._tell(changes)

    @property
    def last(self) -> Change:
        """The last change that the user got."""
        return self.changes[-1]

    @property
    def entry(self) -> RuleState:
        """The entry of the rule `t`."""
        return self.state.entries["t"]

    @property
    def status(self) -> str:
        """How the rule `t` stands."""
        entry = self.state.entries.get("t")
        return "OK" if entry is None else entry.status.value

    def _tell(self, changes: Any) -> list[str]:
        self.changes += changes
        return [change.status for change in changes]
