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
    assert ", at most 1 at once" in done.stdout
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


def test_rules_are_files_with_versions(stack: Stack, database: Database, tmp_path: Path) -> None:
    """Export, difference, import and a way back; every version is kept with who wrote it and how."""
    user = uuid4().hex[:8]
    hot = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}
    cold = {"id": "cold", "key": "temperature", "operator": "<", "threshold": 0, "message": "cold"}
    file = tmp_path / "rules.json"

    def rules(*arguments: str, code: int = 0, stdin: str = "") -> str:
        done = sluice(stack, "rules", *arguments, stdin=stdin)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr

    def stored() -> Any:
        row = database.execute("SELECT rules FROM user_configs WHERE user_id = %s", [user]).fetchone()
        return None if row is None else row[0]

    assert "has no rules" in rules("export", user, str(file), code=1)
    wrong = [{**hot, "operator": "=>"}, {**cold, "domain": "nothing"}]
    faults = rules("import", user, "-", "--yes", code=1, stdin=json.dumps(wrong))
    assert "rules.0.operator" in faults
    misplaced = rules("import", user, "-", "--yes", code=1, stdin=json.dumps(wrong[1:]))
    assert "rules.0.domain" in misplaced
    file.write_text(json.dumps({"rules": [hot]}))
    assert rules("import", user, str(file), "--dry-run").startswith("+ temperature")
    assert rules("import", user, str(file), code=1, stdin="n\n").startswith("+ temperature")
    assert stored() is None
    rules("import", user, str(file), stdin="y\n")
    assert stored() == [hot]
    assert rules("diff", user, str(file)) == f"{user}: the same\nthere is no account of {user}\n"

    database.execute("UPDATE user_configs SET rules = %s WHERE user_id = %s", [json.dumps([hot, cold]), user])
    database.execute("UPDATE user_configs SET rules = rules WHERE user_id = %s", [user])
    found = json.loads(rules("diff", user, str(file), "--json", code=1))
    assert [(one["rule_id"], one["after"]) for one in found["differences"]] == [("cold", None)]
    rules("export", user, str(file))
    assert json.loads(file.read_text()) == {"rules": [hot, cold]}
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], application_name="sluice-worker") as worker:
        worker.execute("UPDATE user_configs SET rules = '[]' WHERE user_id = %s", [user])
    rules("restore", user, "2", "--yes")
    assert stored() == [hot, cold]
    database.execute("DELETE FROM user_configs WHERE user_id = %s", [user])
    versions = json.loads(rules("history", user, "--json"))
    assert [(one["version"], one["way"], len(one["rules"])) for one in versions] == [
        (1, "COMMAND", 1),
        (2, "SQL", 2),
        (3, "MQTT", 0),
        (4, "COMMAND", 2),
        (5, "SQL", 0),
    ]
    assert versions[2]["by"] == user
    assert all(one["by"] for one in versions)
    assert "SQL by " in rules("history", user)
    assert "no version 9" in rules("restore", user, "9", code=1)

    database.execute("INSERT INTO user_configs (user_id, rules) VALUES (%s, '[]')", [user])
    for threshold in range(60):
        changed = json.dumps([{**hot, "threshold": threshold}])
        database.execute("UPDATE user_configs SET rules = %s WHERE user_id = %s", [changed, user])
    kept = json.loads(rules("history", user, "--json"))
    assert [one["version"] for one in kept] == list(range(17, 67))
