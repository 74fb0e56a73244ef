"""`sluice rules` and `sluice alerts`, as an operator runs them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from compose.local.stack import Stack
from tests.integration.commands import sluice

Database = psycopg.Connection[tuple[Any, ...]]


def test_rules_are_tried_on_stored_readings_and_nothing_is_changed(
    stack: Stack, database: Database, tmp_path: Path
) -> None:
    """Columns and the other values of stored readings are judged alike, and no table or alert changes."""
    user, now = uuid4().hex[:8], datetime.now(UTC)
    for number in range(100):
        database.execute(
            "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature, extra_data)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [
                now - timedelta(seconds=600 - number),
                user,
                f"d{number % 2}",
                number,
                90.0 if 20 <= number < 60 else 20.0,
                json.dumps({"motor": {"phases": [number]}}),
            ],
        )
    file = tmp_path / "rules.json"
    rules = [
        {"key": "temperature", "operator": ">", "threshold": 80, "for_seconds": 10, "message": "hot"},
        {"key": "motor.phases.0", "operator": ">=", "threshold": 99, "message": "fast"},
        {"operator": "absent", "for_seconds": 300, "message": "gone"},
    ]
    file.write_text(json.dumps({"rules": rules}))
    done = sluice(stack, "rules", "test", str(file), "--user", user, "--since", "1h", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["readings"], found["devices"]) == (100, 2)
    assert [(rule["rule_id"], rule["fired"]) for rule in found["rules"]] == [
        ("temperature", 2),
        ("motor.phases.0", 1),
        ("absent", 2),
    ]
    done = sluice(stack, "rules", "test", str(file), "--user", user, "--device", "d0")
    assert "temperature: would have fired 1 time on 1 device, open for 30 s" in done.stdout
    assert "motor.phases.0: would not have fired" in done.stdout
    listed = sluice(stack, "alerts", "list", "--user", user, "--json")
    assert json.loads(listed.stdout) == []


def test_a_file_of_rules_is_checked(stack: Stack) -> None:
    """Valid rules are explained; invalid ones exit with 1 and every error."""
    rule = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}
    done = sluice(stack, "rules", "check", "-", stdin=json.dumps([rule]))
    assert (done.returncode, done.stdout) == (0, "temperature: temperature > 80: warning, “hot”\n")
    done = sluice(stack, "rules", "check", "-", stdin=json.dumps([{**rule, "operator": "=>", "key": 5}]))
    assert done.returncode == 1
    assert "rules.0.operator" in done.stderr
    assert "rules.0.key" in done.stderr
    assert "Traceback" not in done.stderr


def test_alerts_are_listed(stack: Stack, database: Database) -> None:
    """A line for each alert, or JSON."""
    user = uuid4().hex[:8]
    database.execute(
        "INSERT INTO active_alerts (user_id, device_id, rule_id, alert_id, status, severity, message, value,"
        " first_seen, count)"
        " VALUES (%s, 'd', 'temperature', 'a', 'TRIGGERED', 'critical', 'hot', '91', now(), 3)",
        [user],
    )
    done = sluice(stack, "alerts", "list", "--user", user)
    assert f"TRIGGERED  {user}/d  temperature  critical: hot  since " in done.stdout
    (row,) = json.loads(sluice(stack, "alerts", "list", "--user", user, "--json").stdout)
    assert (row["device_id"], row["status"], row["value"], row["count"]) == ("d", "TRIGGERED", 91, 3)
    database.execute("DELETE FROM active_alerts WHERE user_id = %s", [user])
