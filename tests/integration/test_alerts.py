"""Alerts from end to end: rules by SQL, readings by MQTT, one TRIGGERED and one RESOLVED."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg

from compose.local.stack import Stack
from tests.integration import fleet
from tests.integration.announced import announced
from tests.integration.subscriber import subscriber

HOT = [{"key": "motor.heat", "operator": ">", "threshold": 80, "message": "too hot", "severity": "critical"}]


def set_rules(stack: Stack, database: psycopg.Connection[tuple[Any, ...]], user: str) -> None:
    """As any SQL client would; when this returns they count."""
    with announced(stack):
        database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)", [user, json.dumps(HOT)]
        )


def publish(device: fleet.Device, heats: list[float]) -> None:
    """A reading a second, all at once."""
    start = datetime.now(UTC) - timedelta(seconds=len(heats))
    for number, heat in enumerate(heats):
        moment = (start + timedelta(seconds=number)).isoformat()
        payload = {"sequence_id": number, "time": moment, "motor": {"heat": heat}}
        device.publish(json.dumps(payload).encode())
    device.await_acknowledged()


def test_ten_minutes_of_violation_are_two_notices(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """However many readings violate a rule, the user is notified once of its begin and once of its end."""
    user = uuid4().hex[:8]
    (device,) = fleet.devices(pipeline, [(user, "pump")])
    set_rules(pipeline, database, user)
    with subscriber(pipeline, user) as listening:
        publish(device, [*[90.0 + n % 7 for n in range(600)], 20.0])
        assert listening.told(2) == [("pump", "TRIGGERED"), ("pump", "RESOLVED")]
        triggered, resolved = listening.notices
    assert triggered["alert_id"] == resolved["alert_id"]
    assert (triggered["value"], triggered["severity"], resolved["value"]) == (90.0, "critical", 20.0)
    history = "SELECT status FROM alert_history WHERE user_id = %s ORDER BY number"
    fleet.wait_until(lambda: len(database.execute(history, [user]).fetchall()) >= 2, 20, "the history")
    assert database.execute(history, [user]).fetchall() == [("TRIGGERED",), ("RESOLVED",)]
    assert database.execute("SELECT FROM active_alerts WHERE user_id = %s", [user]).rowcount == 0
    fleet.disconnect([device])


def test_forty_flaps_are_forty_changes_in_order(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Nothing is lost or swapped within a batch."""
    user = uuid4().hex[:8]
    (device,) = fleet.devices(pipeline, [(user, "pump")])
    set_rules(pipeline, database, user)
    with subscriber(pipeline, user) as listening:
        publish(device, [90.0, 20.0] * 20)
        assert [status for _, status in listening.told(40)] == ["TRIGGERED", "RESOLVED"] * 20
        ids = [notice["alert_id"] for notice in listening.notices]
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == 20
    fleet.disconnect([device])
