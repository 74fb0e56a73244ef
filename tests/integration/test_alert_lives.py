"""Random lives of a device through the real evaluation on real servers, held against the plain model."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from tasks.alerts import state_store
from tasks.alerts.evaluate import evaluate
from tasks.alerts.rebuild import UNTOLD, _change
from tasks.batch.messages import Message
from tasks.domain.payload import Limits
from tasks.outbox import deliver
from tasks.rows.validate import Received
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
from tests.unit.tasks.rules.device import START, Device
from tests.unit.tasks.rules.lives import (
    AGAIN,
    CLOCK,
    COMMANDS,
    FLIPS_IN_ORDER,
    FORGETFUL_RULES,
    IN_ORDER,
    LONG_CLOCK,
    LOST,
    Event,
    Life,
    lives,
    rule_sets,
    told,
    well_formed,
)
from tests.unit.tasks.rules.plain_model import PlainModel

pytestmark = pytest.mark.usefixtures("in_process")

Database = psycopg.Connection[tuple[Any, ...]]

HALF_DONE = st.tuples(st.just("half done"), st.integers(1, 12))
ALL_OF_USER = UNTOLD.split("WHERE outbox_position")[0] + 'WHERE user_id = %s ORDER BY "number"'


class RealDevice(Device):
    """The device of the unit tests, judged by a worker's code: rules in SQL, states in Redis."""

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
        """What the history has."""
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
        evaluate(DOMAIN, [self._judged(reading) for reading in readings])

    def command(self, action: str, at: float, minutes: float | None = None, **named: Any) -> list[str]:
        """Raises what `manage` raises."""
        document = {"device_id": "d", "rule_id": named["rule_id"], "action": action}
        command = parse_command(document | {"duration_minutes": minutes})
        origin = Origin(named["command_id"], round((START + at) * 1000), "anna")
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
        self.rules = parse_rules(list(rules))
        self.database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)"
            " ON CONFLICT (user_id) DO UPDATE SET rules = excluded.rules",
            [self.user, json.dumps(list(rules))],
        )
        announce_change()
        if at is not None:
            self._transact(lambda state: machine.rules_changed(state, self.rules, round((START + at) * 1000)))
        return []

    def _judged(self, reading: Observation) -> Received:
        topic = f"users/{self.user}/devices/d/telemetry"
        time = reading.time.astimezone(UTC).isoformat()
        payload = json.dumps({"sequence_id": reading.sequence_id, "time": time, **reading.payload}).encode()
        message = Message(reading.partition, reading.offset, reading.timestamp_ms, topic, "", 0, payload)
        return Received(message, DOMAIN.validate(topic, payload, reading.timestamp_ms, Limits()))

    def _transact(self, decide: state_store.Decide) -> None:
        state_store.transact([(self.user, "d")], decide)
        deliver.await_written(30)


class RealLife(Life):
    """Whatever was settled may be lost; whatever was not comes again."""

    def __init__(self, rules: list[dict[str, Any]], database: Database) -> None:
        self.device = self.real = RealDevice(database)
        self.device.change_rules(*rules)
        self.model = PlainModel()
        self.model.rules = {rule["id"]: rule for rule in rules}
        self.packed = False
        self.now = 0
        self.seen = {}
        self.forgotten = set()
        self.commands = []

    def rules(self, rules: list[dict[str, Any]], noticed: bool) -> None:
        """Readings of a user without any rule are not judged: then the change itself is what ends alerts."""
        super().rules(rules, noticed or not rules)

    def lost(self, back: int) -> None:
        """Redis is flushed; what was not committed comes again, to its end."""
        client().flushall()
        self.again(back, back)

    def half_done(self, back: int) -> None:
        """Redis is flushed after `process` and before `store`: the readings come again, as new as before."""
        payload = {"a": 3, "b": 0}
        self.now += 1
        self.real.sent.append(self.real.reading(payload, self.now))
        self.seen |= dict.fromkeys(("a", "b", ""), self.now)
        assert self.model
        self.model.reading(self.real.offset, self.now, self.now, payload, self.real.offset)
        again = [record for record in self.device.sent[-back:] if record.offset not in self.forgotten]
        self.real.evaluate(*again)
        client().flushall()
        self.real.judge(*again)


@settings(
    max_examples=60,
    # A failure is told as it was found: to shrink one on real servers would take many minutes.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rules=rule_sets(remembering=False) | rule_sets(remembering=False, flapping=True),
    events=lives(
        IN_ORDER,
        IN_ORDER,
        FLIPS_IN_ORDER,
        COMMANDS,
        FORGETFUL_RULES,
        CLOCK | LONG_CLOCK,
        AGAIN,
        LOST,
        HALF_DONE,
    ),
)
def test_on_real_servers_any_life_is_told_as_the_plain_model_tells_it(
    database: Database, rules: list[dict[str, Any]], events: list[Event]
) -> None:
    """Whatever Redis loses, and whatever comes again: the same changes, once each, in order."""
    life = RealLife(rules, database)
    for event in events:
        life.live([event])
        if event[0] in {"command", "clock", "rules"}:
            life.forget(everything=True)
    assert life.model
    changes = life.device.changes
    told(changes, life.model)
    well_formed(changes)
    assert all(isinstance(change.time, datetime) for change in changes)
