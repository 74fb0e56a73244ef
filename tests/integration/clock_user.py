"""A user whose rules the clock judges in this process, and what the clock believes to have heard."""

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tasks.alerts import absences, silence, state_store
from tasks.alerts.evaluate import evaluate
from tasks.alerts.rule_cache import rule_sets
from tasks.alerts.silence import Heard
from tasks.batch.messages import Message
from tasks.domain.domain import AnyDomain
from tasks.domain.payload import Limits
from tasks.outbox import deliver
from tasks.rows.validate import Received
from tasks.rules.change import Change
from tasks.rules.commands import Origin, manage, parse_command
from tasks.servers.redis_client import (
    CLOCK,
    GATEWAYS,
    HORIZON,
    LAST_SEEN,
    LAST_SEEN_READY,
    RULES_VERSION,
    client,
    server_run,
)
from tasks.settings import settings
from tasks.telemetry import DOMAIN
from tests.integration.changes import write_tables

SILENT = {"operator": "absent", "for_seconds": 60, "message": "silent"}

NO_BATTERY = {"key": "battery", "operator": "absent", "for_seconds": 60, "message": "no battery"}

HOT = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}

Database = psycopg.Connection[tuple[Any, ...]]


class Ear:
    """What the clock believes to have heard; all of the last day unless set otherwise."""

    def __init__(self) -> None:
        self.since_s: float | None = -86_400
        self.until_s: float = 0

    def heard(self, now_ms: int, _domain: AnyDomain) -> Heard | None:
        """In the place of `listening.heard`; times are seconds from now."""
        if self.since_s is None:
            return None
        return Heard(now_ms + round(self.since_s * 1000), now_ms + round(self.until_s * 1000))


class User:
    """A user with rules, and the changes of the devices."""

    def __init__(self, database: Database) -> None:
        self.id = uuid4().hex[:8]
        self.database = database
        self.offset = 0

    def rule(self, *rules: dict[str, Any]) -> None:
        """Other rules, known at once."""
        self.database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)"
            " ON CONFLICT (user_id) DO UPDATE SET rules = excluded.rules",
            [self.id, json.dumps(rules)],
        )
        client().incr(RULES_VERSION)

    def send(self, device: str, at_s: float, **values: Any) -> list[Change]:
        """A reading that came this many seconds from now; all its changes."""
        self.offset += 1
        at_ms = round((time.time() + at_s) * 1000)
        topic = f"users/{self.id}/devices/{device}/telemetry"
        payload = json.dumps({"sequence_id": self.offset, **values}).encode()
        message = Message(0, self.offset, at_ms, topic, "", 0, payload)
        return evaluate(DOMAIN, [Received(message, DOMAIN.validate(topic, payload, at_ms, Limits()))]).changes

    def command(self, device: str, action: str, at_s: float, minutes: float | None = None) -> None:
        """A command about the rule `temperature` or `absent`, sent so many seconds from now."""
        rules = rule_sets([self.id])[self.id]
        document = {"device_id": device, "rule_id": rules.rules[0].rule_id, "action": action}
        command = parse_command(document | {"duration_minutes": minutes})
        origin = Origin(uuid4().hex, round((time.time() + at_s) * 1000), "anna")
        state_store.transact([(self.id, device)], lambda state: manage(state, rules, command, origin))

    def told(self) -> list[tuple[str, str]]:
        """Device and status of all that was told, as the history has it."""
        write_tables()
        query = 'SELECT device_id, status FROM alert_history WHERE user_id = %s ORDER BY device_id, "number"'
        return [(str(device), str(status)) for device, status in self.database.execute(query, [self.id])]


@pytest.fixture
def fresh_clock(in_process: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: ARG001 - first
    """A clock that has judged nothing yet, and sends no tasks."""
    monkeypatch.setattr(deliver, "wake", lambda: None)
    absences._users.clear()
    forget()
    client().ping()
    client().set(LAST_SEEN_READY, server_run())
    yield
    silence.close()
    forget()


def forget() -> None:
    """Leaves nothing that the clock remembers."""
    client().delete(CLOCK, HORIZON, GATEWAYS, LAST_SEEN, LAST_SEEN_READY)
    for pattern in ("sluice:turn:*", "sluice:rest:*", "sluice:failures:*"):
        for key in client().scan_iter(match=pattern):
            client().delete(key)


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    """The clock hears what the test says."""
    own = Ear()
    monkeypatch.setattr(silence, "heard", own.heard)
    return own


@pytest.fixture
def user(database: Database) -> Iterator[User]:
    """A user, whose rules go with the test."""
    one = User(database)
    yield one
    one.database.execute("DELETE FROM user_configs WHERE user_id = %s", [one.id])
    one.database.close()


@pytest.fixture
def never_seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Devices that have never sent anything can be absent."""
    monkeypatch.setenv("ABSENT_NEVER_SEEN", "true")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()
