"""The device of the unit tests, judged by a worker's code on real servers: rules in SQL, states in Redis."""

import json
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from tasks.alerts import state_store
from tasks.alerts.evaluate import evaluate
from tasks.alerts.rebuild import UNTOLD, _change
from tasks.outbox import deliver
from tasks.rules import machine
from tasks.rules.change import Change
from tasks.rules.commands import Origin, manage, parse_command
from tasks.rules.lasting import calmed, lasted
from tasks.rules.machine import LastSeen, Observation
from tasks.rules.parsing import parse_rules
from tasks.rules.state import DeviceState
from tasks.servers.redis_client import alert_key, client
from tasks.servers.rules_version import announce_change
from tasks.telemetry import DOMAIN
from tests.unit.tasks.alerts.stored_device import received
from tests.unit.tasks.rules.device import START, Device

Database = psycopg.Connection[tuple[Any, ...]]

ALL_OF_USER = UNTOLD.split("WHERE outbox_position")[0] + 'WHERE user_id = %s ORDER BY "number"'


class RealDevice(Device):
    """A user's only device."""

    def __init__(self, database: Database) -> None:
        self.user = uuid4().hex[:12]
        self.database = database
        super().__init__()

    @property
    def state(self) -> DeviceState:
        """What Redis has."""
        packed = client().get(alert_key(self.user, "d"))
        return DeviceState.unpack(self.user, "d", packed if isinstance(packed, bytes) else None)

    @state.setter
    def state(self, state: DeviceState) -> None:
        assert state == DeviceState("u", "d"), "only the beginning may be set"

    @property
    def changes(self) -> list[Change]:
        """The changes in the history."""
        deliver.await_written(30)
        rows = self.database.cursor(row_factory=dict_row).execute(ALL_OF_USER, [self.user])
        return [_change(row) for row in rows]

    @changes.setter
    def changes(self, changes: list[Change]) -> None:
        assert changes == []

    def judge(self, *readings: Observation) -> list[str]:
        """As `process` does, and `store` after it."""
        self.evaluate(*readings)
        deliver.await_written(30)
        return []

    def evaluate(self, *readings: Observation) -> None:
        """As `process` does, before `store` has run."""
        evaluate(DOMAIN, [received(reading, self.user) for reading in readings])

    def command(self, action: str, at: float, minutes: float | None = None, **named: Any) -> list[str]:
        """Raises what `manage` raises."""
        document = {"device_id": "d", "rule_id": named["rule_id"], "action": action}
        document |= {"note": named["note"]} if named.get("note") else {}
        command = parse_command(document | {"duration_minutes": minutes})
        origin = Origin(named["command_id"], round((START + at) * 1000), named.get("by", "anna"))
        self._transact(lambda state: manage(state, self.rules, command, origin))
        return []

    def tick(self, now: float, seen: float = 0, listening: float | None = -1e6, **keys: float) -> list[str]:
        """As the clock does."""
        now_ms = round((START + now) * 1000)
        last_seen = LastSeen(
            round((START + seen) * 1000), {key: round((START + at) * 1000) for key, at in keys.items()}
        )
        since = None if listening is None else round((START + listening) * 1000)
        self._transact(lambda state: machine.snoozes_ended(state, now_ms))
        self._transact(lambda state: lasted(state, self.rules, now_ms, since))
        self._transact(lambda state: calmed(state, self.rules, now_ms, since))
        self._transact(lambda state: machine.absent(state, self.rules, last_seen, now_ms, since))
        return []

    def change_rules(self, *rules: dict[str, Any], at: float | None = None) -> list[str]:
        """By SQL; without `at` nothing but the next reading notices."""
        self.rules = parse_rules(list(rules)).of_device("d")
        self.database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)"
            " ON CONFLICT (user_id) DO UPDATE SET rules = excluded.rules",
            [self.user, json.dumps(list(rules))],
        )
        announce_change()
        if at is not None:
            self._transact(lambda state: machine.rules_changed(state, self.rules, round((START + at) * 1000)))
        return []

    def _transact(self, decide: state_store.Decide) -> None:
        state_store.transact([(self.user, "d")], decide)
        deliver.await_written(30)
