"""Alerts as users ask for them, by MQTT and SQL alone: each kind of rule and command, no word lost."""

import json
import operator
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.errors import StackError
from compose.local.stack import Stack
from tests.integration import fleet
from tests.integration.announced import announced
from tests.integration.subscriber import Subscriber, subscriber

Database = psycopg.Connection[tuple[Any, ...]]

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


class User:
    """A user with one device, who listens to notices and answers."""

    def __init__(self, stack: Stack, listening: Subscriber, device: fleet.Device) -> None:
        self.id = listening.user
        self.listening = listening
        self.device = device
        self._number = 0
        self._start = datetime.now(UTC) - timedelta(hours=1)
        self.stack = stack

    def send(self, values: dict[str, Any], at: float | None = None) -> None:
        """A reading of so many seconds after the first, by default one second after the one before."""
        self._number += 1
        moment = self._start + timedelta(seconds=self._number if at is None else at)
        payload = {"sequence_id": self._number, "time": moment.isoformat(), **values}
        self.device.publish(json.dumps(payload).encode())
        self.device.await_acknowledged()

    def told(self, count: int) -> list[tuple[str, str]]:
        """Rule and status of each notice, once so many have come."""
        self.listening.told(count)
        return [(notice["rule_id"], notice["status"]) for notice in self.listening.notices]


@pytest.fixture
def user(pipeline: Stack) -> Iterator[User]:
    """A user who listens."""
    name = uuid4().hex[:8]
    (device,) = fleet.devices(pipeline, [(name, "pump")])
    with subscriber(pipeline, name) as listening:
        yield User(pipeline, listening, device)
    fleet.disconnect([device])


def set_rules(user: User, *rules: dict[str, Any]) -> None:
    """By MQTT; from the answer on they are in force."""
    answer = user.listening.ask("config", {"rules": [{"message": "m", **rule} for rule in rules]})
    assert answer == {"ok": True, "rules": len(rules)}


def command(user: User, action: str, rule_id: str, **more: Any) -> None:
    """By MQTT, about the user's device."""
    document = {"device_id": "pump", "rule_id": rule_id, "action": action, **more}
    assert user.listening.ask("alerts/manage", document) == {"ok": True}


def test_every_operator_is_judged_as_it_is_written(user: User) -> None:
    """By rules that came by MQTT and are in force when answered, about a value deep in the payload."""
    rules = [{"id": sign, "key": "motor.phases.1", "operator": sign, "threshold": 5.5} for sign in OPERATORS]
    set_rules(user, *rules)
    values = [5.5, 6, 5.5, 5, True, "9", None, 5.5]
    wanted: list[tuple[str, str]] = []
    violated = dict.fromkeys(OPERATORS, False)
    for value in values:
        user.send({"motor": {"phases": [0, value]}})
        if type(value) not in {int, float}:
            continue
        for sign, compare in OPERATORS.items():
            now = compare(float(value), 5.5)  # type: ignore[arg-type]
            if now != violated[sign]:
                wanted.append((sign, "TRIGGERED" if now else "RESOLVED"))
            violated[sign] = now
    assert user.told(len(wanted)) == wanted


def test_a_rule_waits_as_long_as_it_says_and_clears_where_it_says(user: User) -> None:
    """`for_seconds` counts by the readings' own times, and `clear_threshold` keeps an alert open."""
    set_rules(
        user,
        {"key": "warm", "operator": ">", "threshold": 30, "for_seconds": 1000},
        {"key": "wet", "operator": ">", "threshold": 80, "clear_threshold": 70},
    )
    # The clock counts on from the latest reading, and has far to go.
    readings = [(0, 31, 60), (900, 32, 81), (1050, 20, 75), (1100, 31, 79), (2000, 33, 70), (2100, 33, 69)]
    for at, warm, wet in readings:
        user.send({"warm": warm, "wet": wet}, at)
    user.send({"warm": 29, "wet": 69}, 2200)
    assert user.told(4) == [
        ("wet", "TRIGGERED"),
        ("wet", "RESOLVED"),
        ("warm", "TRIGGERED"),
        ("warm", "RESOLVED"),
    ]
    triggered = user.listening.notices[2]
    assert (triggered["value"], triggered["count"]) == (33, 3)


def test_a_warning_becomes_critical_within_one_alert(user: User, database: Database) -> None:
    """Each rise is published once and in order, also at one time; the tables have it until the end."""
    steps = [{"severity": "high", "threshold": 90}, {"severity": "critical", "threshold": 95}]
    set_rules(user, {"key": "heat", "operator": ">", "threshold": 80, "escalate": steps})
    for heat in (85, 92, 97):
        user.send({"heat": heat}, 10)
    user.send({"heat": 99}, 20)
    assert user.told(3) == [("heat", "TRIGGERED"), ("heat", "ESCALATED"), ("heat", "ESCALATED")]
    rows = "SELECT status, severity FROM active_alerts WHERE user_id = %s"
    fleet.wait_until(
        lambda: database.execute(rows, [user.id]).fetchall() == [("TRIGGERED", "critical")], 30, "the row"
    )
    user.send({"heat": 85}, 30)
    user.send({"heat": 70}, 40)
    assert user.told(4)[-1] == ("heat", "RESOLVED")
    told = [(n["status"], n["severity"], n["alert_id"]) for n in user.listening.notices]
    assert [severity for _, severity, _ in told] == ["warning", "high", "critical", "critical"]
    assert len({alert_id for *_, alert_id in told}) == 1
    history = "SELECT status, severity, alert_id FROM alert_history WHERE user_id = %s ORDER BY number"
    fleet.wait_until(lambda: database.execute(history, [user.id]).fetchall() == told, 30, "the history")


def test_an_alert_that_comes_and_goes_is_told_as_one(user: User, database: Database) -> None:
    """FLAPPING in place of the third; the calm under its id."""
    rule = {"key": "heat", "operator": ">", "threshold": 80, "flapping": {"changes": 4, "minutes": 10}}
    set_rules(user, rule)
    for number in range(12):
        user.send({"heat": 70 if number % 2 else 90}, number)
    statuses = ["TRIGGERED", "RESOLVED", "TRIGGERED", "RESOLVED", "FLAPPING"]
    assert user.told(5) == [("heat", status) for status in statuses]
    user.send({"heat": 91}, 620)
    user.send({"heat": 70}, 630)
    assert user.told(7)[5:] == [("heat", "TRIGGERED"), ("heat", "RESOLVED")]
    told = [(n["status"], n.get("reason"), n["alert_id"]) for n in user.listening.notices]
    assert [reason for _, reason, _ in told] == [None] * 5 + ["calm", None]
    assert len({alert_id for *_, alert_id in told[4:]}) == 1
    history = "SELECT status, reason, alert_id FROM alert_history WHERE user_id = %s ORDER BY number"
    fleet.wait_until(lambda: database.execute(history, [user.id]).fetchall() == told, 30, "the history")


def test_snooze_disable_and_enable_are_answered_and_obeyed(user: User, database: Database) -> None:
    """A snoozed alert that still holds is published again at the end; a disabled rule says nothing."""
    set_rules(user, {"key": "heat", "operator": ">", "threshold": 80})
    user.send({"heat": 90})
    user.told(1)
    command(user, "SNOOZE", "heat", duration_minutes=0.05)
    user.send({"heat": 91})
    time.sleep(3.5)
    user.send({"heat": 92})
    user.told(3)
    command(user, "DISABLE", "heat")
    user.send({"heat": 20})
    user.send({"heat": 93})
    user.told(4)
    command(user, "ENABLE", "heat")
    user.send({"heat": 94})
    user.send({"heat": 20})
    wanted = ["TRIGGERED", "SNOOZED", "TRIGGERED", "DISABLED", "ENABLED", "TRIGGERED", "RESOLVED"]
    assert [status for _, status in user.told(len(wanted))] == wanted
    by = 'SELECT status, "by" FROM alert_history WHERE user_id = %s AND "by" IS NOT NULL ORDER BY number'
    asked = [("SNOOZED", user.id), ("DISABLED", user.id), ("ENABLED", user.id)]
    fleet.wait_until(lambda: database.execute(by, [user.id]).fetchall() == asked, 20, "who asked")


def test_rules_by_sql_are_in_force_without_a_restart(user: User, database: Database) -> None:
    """A plain UPDATE is enough; an alert whose rule is gone is resolved with that reason."""
    insert = (
        "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)"
        " ON CONFLICT (user_id) DO UPDATE SET rules = excluded.rules"
    )
    rules = [{"key": "heat", "operator": ">", "threshold": 80, "message": "hot"}]
    user.send({"heat": 90})
    with announced(user.stack):
        database.execute(insert, [user.id, json.dumps(rules)])
    user.send({"heat": 91})
    user.told(1)
    database.execute(insert, [user.id, "[]"])
    assert user.told(2) == [("heat", "TRIGGERED"), ("heat", "RESOLVED")]
    assert user.listening.notices[1]["reason"] == "rule_removed"


@pytest.mark.usefixtures("beat")
def test_a_device_that_falls_silent_is_missed_and_its_return_is_told(user: User) -> None:
    """By beat, once the gateway has listened for as long as devices may take to come back after an outage."""
    set_rules(user, {"id": "silent", "operator": "absent", "for_seconds": 2})
    user.send({"heat": 1})
    fleet.wait_until(lambda: len(user.listening.notices) >= 1, 300, "the device to be missed")
    user.send({"heat": 1})
    assert user.told(2)[:2] == [("silent", "TRIGGERED"), ("silent", "RESOLVED")]


@pytest.mark.usefixtures("beat")
def test_a_worker_that_is_killed_loses_no_notice_and_repeats_none_under_a_new_id(
    user: User, database: Database
) -> None:
    """SIGKILL, again and again, between the changes of states and their notices; beat sees to the rest."""
    set_rules(user, {"key": "heat", "operator": ">", "threshold": 80})
    for _ in range(4):
        for _ in range(25):
            user.send({"heat": 90})
            user.send({"heat": 20})
        # Between the kills the supervisor starts it again.
        fleet.wait_until(lambda: killed(user.stack), 60, "a worker to kill")
    history = "SELECT alert_id, status FROM alert_history WHERE user_id = %s ORDER BY number"
    fleet.wait_until(lambda: database.execute(history, [user.id]).rowcount == 200, 240, "the history")
    told = database.execute(history, [user.id]).fetchall()
    assert [status for _, status in told] == ["TRIGGERED", "RESOLVED"] * 100

    def heard() -> list[tuple[str, str]]:
        return list(dict.fromkeys((n["alert_id"], n["status"]) for n in user.listening.notices))

    fleet.wait_until(lambda: len(heard()) >= 200, 240, "all notices")
    assert heard() == told


def killed(stack: Stack) -> bool:
    """Whether there was a worker to kill."""
    try:
        os.kill(stack.pid("worker"), signal.SIGKILL)
    except (StackError, ProcessLookupError):
        return False
    return True
