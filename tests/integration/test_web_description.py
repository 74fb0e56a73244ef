"""The HTTP API answers as its description and its pages say, with the pipeline behind it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from compose.local.stack import Stack
from tests.integration import web_process
from tests.integration.commands import run_page
from tests.integration.fleet import wait_until
from tests.integration.stream import Written, reading
from tests.integration.web_process import Web
from tests.integration.web_tenant import Database, role, token, user, web

__all__ = ["role", "token", "user", "web"]


CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,ignored_auth,unsupported_method"
)

# Reading dead letters means reading their topic, which takes its time: these routes get a few examples each.
CHECKED = """
[parameters]
"path.user" = "USER"
"path.device" = "d"
[[operations]]
include-path-regex = "^/api/v1/dead-letters"
phases.coverage.enabled = false
"""


def test_alerts_rules_accounts_and_dead_letters_are_told(
    pipeline: Stack, web: Web, database: Database, user: str, token: str
) -> None:
    """As the commands have them; dead letters by reason, device and hour."""
    (alert,) = web.ask("/alerts", token, {"status": "TRIGGERED"}).document["alerts"]
    assert (alert["alert_id"], alert["message"], alert["count"]) == (f"a-{user}", "Too hot", 2)
    (change,) = web.ask("/alerts/history", token, {"from": "1h"}).document["changes"]
    assert change["alert_id"] == alert["alert_id"]
    # Two rises of one alert at one time differ by their severity alone.
    for severity in ("critical", "info"):
        database.execute(
            "INSERT INTO alert_history (alert_id, status, time, user_id, device_id, rule_id, severity)"
            " SELECT alert_id, 'ESCALATED', time, user_id, device_id, rule_id, %s FROM alert_history"
            " WHERE user_id = %s AND status = 'TRIGGERED'",
            [severity, user],
        )
    told: list[tuple[str, str]] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = web.ask("/alerts/history", token, {"limit": 1, **cursor}).document
        told += [(one["status"], one["severity"]) for one in page["changes"]]
        cursor = {"cursor": page["next"]}
    assert (sorted(told), page["next"]) == (
        *([("ESCALATED", "critical"), ("ESCALATED", "info"), ("TRIGGERED", "warning")], None),
    )
    rules = web.ask(f"/rules/{user}", token).document
    assert (rules["rules"][0]["threshold"], rules["faults"], rules["operator_rules"]) == (40, [], [])
    frost = {"key": "temperature", "operator": "<", "threshold": 0, "message": "frost"}
    database.execute("INSERT INTO user_configs (user_id, rules) VALUES ('+', %s)", [json.dumps([frost])])
    try:
        in_force = web.ask(f"/rules/{user}", token).document
    finally:
        database.execute("DELETE FROM user_configs WHERE user_id = '+'")
    assert in_force["operator_rules"] == [{**frost, "id": "operator:temperature"}]
    assert in_force["rules"] == rules["rules"]
    (account,) = web.ask("/accounts", token).document["accounts"]
    assert (account["username"], account["kind"]) == (f"{user}/d", "device")
    Written(pipeline, user).write([b"{}", b"[]", b"[]", reading(1)])
    letters = web.ask("/dead-letters", token).document
    groups = {one["error_type"]: (one["device_id"], one["letters"]) for one in letters["groups"]}
    assert (letters["total"], groups) == (3, {"MissingField": ("d", 1), "NotAnObject": ("d", 2)})
    assert [one["payload"] for one in letters["letters"]] == ["{}", "[]", "[]"]
    status = web.ask("/status").document
    assert {"problems", "kafka", "processes"} <= status.keys()


@pytest.mark.parametrize("methods", [["GET"], ["POST", "PUT", "DELETE"]], ids="-".join)
def test_whatever_the_description_allows_is_answered_as_it_says(
    pipeline: Stack, web: Web, user: str, token: str, tmp_path: Path, methods: list[str]
) -> None:
    """No 500, no status, type or shape that the description lacks, nothing without a token."""
    assert pipeline.running()
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(web.ask("/openapi.json").document))
    (tmp_path / "schemathesis.toml").write_text(CHECKED.replace("USER", user))
    bearer = web_process.OPERATOR if methods == ["GET"] else token
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(description), "--url", web.url),
            *("--header", f"Authorization: Bearer {bearer}", "--phases", "coverage,fuzzing"),
            *(
                "--exclude-path",
                web_process.STREAM,
                "--checks",
                CHECKS,
                "--max-examples",
                "3",
                "--seed",
                "1",
                "--workers",
                "2",
                "--no-color",
            ),
            *(word for method in methods for word in ("--include-method", method)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_commands_of_the_pages_succeed(pipeline: Stack) -> None:
    """On a stack as `make up` starts it, with the process of the Procfile."""
    pipeline.up(["web"], prepare=False)
    try:
        port = pipeline.env["WEB_METRICS_PORT"]
        wait_until(Web(0, int(port)).ready, 60, "the web process to be ready")
        said = run_page(pipeline, "docs/api.md")
        assert "Sign in to Sluice" in run_page(pipeline, "docs/console.md")
    finally:
        pipeline.stop("web")
    assert '"devices":[' in said
