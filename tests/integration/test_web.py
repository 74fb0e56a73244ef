"""The HTTP API: who sees what, what it says, and what it says when it cannot."""

import json
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from compose.local.stack import Stack
from ingest.admin import accounts, channels, provision, tokens
from tests.integration import web_process
from tests.integration.commands import run_page, sluice
from tests.integration.fleet import wait_until
from tests.integration.notify_process import notify_worker
from tests.integration.receivers import http_receiver
from tests.integration.stream import Written, cold_only, reading, sequence_ids
from tests.integration.web_process import Web

Database = psycopg.Connection[tuple[Any, ...]]

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,ignored_auth,unsupported_method"
)
# Whoever reads dead letters reads their topic, which takes its time: these routes get a few examples each.
CHECKED = """
[parameters]
"path.user" = "USER"
"path.device" = "d"
[[operations]]
include-path-regex = "^/api/v1/dead-letters"
phases.coverage.enabled = false
"""
OPERATORS_ALONE = {"/api/v1/status", "/api/v1/accounts/csv"}
# Its answer has no end.
STREAM = "/api/v1/events"
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def role(stack: Stack) -> Iterator[str]:
    """The URL of the process's role in the database."""
    with web_process.role(stack) as url:
        yield url


@pytest.fixture(scope="module")
def web(stack: Stack, role: str) -> Iterator[Web]:
    """The process, with no more rights than its role has, and little patience.

    It also knows the owner's URL, as it does where all processes share their settings.
    """
    with web_process.running(
        stack,
        DATABASE_URL=role,
        WEB_STATEMENT_TIMEOUT_SECONDS="2",
        WEB_REQUESTS_PER_SECOND="1000",
        WEB_TRUSTED_PROXIES="127.0.0.1",
        CHANNEL_ALLOWED_NETWORKS="127.0.0.0/8",
        CHANNEL_SCHEMES="http,https,mailto,slack",
    ) as process:
        yield process


@pytest.fixture
def user(database: Database) -> str:
    """A user that no other test has: two devices, an alert, its history, rules, an account and a channel."""
    name = f"u{uuid4().hex[:8]}"
    for number, device in enumerate(("d", "quiet")):
        seen = NOW - timedelta(hours=number)
        database.execute(
            "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen, own_time)"
            " VALUES (%s, %s, 'telemetry', %s, %s, %s)",
            [name, device, seen, seen, NOW],
        )
    database.execute("INSERT INTO device_days VALUES (%s, 'd', '2026-03-02', 4, 1)", [name])
    for minute, temperature in enumerate((20.0, 22.0, 30.0, None)):
        database.execute(
            "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature, extra_data)"
            " VALUES (%s, %s, 'd', %s, %s, %s)",
            [
                NOW + timedelta(minutes=30 * minute),
                name,
                minute,
                temperature,
                Jsonb({"a": {"b": minute}}),
            ],
        )
    for table, more in (("active_alerts", ""), ("alert_history", ", time")):
        values = ", now()" if more else ""
        database.execute(
            f"INSERT INTO {table}"
            f" (alert_id, status, user_id, device_id, rule_id, severity, message, count{more})"
            f" VALUES (%s, 'TRIGGERED', %s, 'd', 'hot', 'warning', 'Too hot', 2{values})",
            [f"a-{name}", name],
        )
    database.execute(
        "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)",
        [name, json.dumps([{"key": "temperature", "operator": ">", "threshold": 40, "message": "hot"}])],
    )
    provision.provision(database, accounts.device(name, "d"))
    database.execute(
        "INSERT INTO channels (user_id, name, kind, target, enabled)"
        " VALUES (%s, 'hook', 'webhook', 'https://a:b@example.com:8443/secret?token', false)",
        [name],
    )
    return name


@pytest.fixture
def token(database: Database, user: str) -> str:
    """A token of that user."""
    return tokens.create(database, user).token


def test_every_route_is_closed_to_whoever_it_is_not_for(
    web: Web, stack: Stack, database: Database, user: str, token: str
) -> None:
    """401 without a valid token; a tenant sees the tenant's own, and 404 for what is another's."""
    other = f"o{uuid4().hex[:8]}"
    made = json.loads(sluice(stack, "tokens", "create", other, "--json").stdout)
    others, expired = made["token"], tokens.create(database, user, NOW).token
    gone = tokens.create(database, user)
    assert web.ask("/devices", gone.token).status == 200
    assert gone.token_id in sluice(stack, "tokens", "list", user).stdout
    assert sluice(stack, "tokens", "revoke", user, gone.token_id).returncode == 0
    document = web.ask("/openapi.json").document
    bodies: dict[str, object] = {
        "/alerts/{user}/manage": {"device_id": "d", "rule_id": "temperature", "action": "ENABLE"},
        "/rules/{user}": [],
        "/rules/{user}/rehearse": [],
        "/accounts": {"user": user, "devices": ["d"]},
        "/channels/{user}/{name}": {"kind": "webhook", "target": "https://example.com/", "secret": "s" * 16},
        "/dead-letters/replays": {"user": user, "dry_run": True},
        "/dead-letters/acknowledgements": {"user": user, "dry_run": True},
    }
    routes = [(path, method) for path, methods in document["paths"].items() for method in methods]
    assert len(routes) >= 10
    for number, (template, method) in enumerate(routes):
        route = template.removeprefix("/api/v1")
        path = route.format(user=user, device="d", name="hook", run_id="none")
        # Unknown tokens of one address have a limit.
        address = {"X-Forwarded-For": f"192.0.2.{number}"}
        body = bodies.get(route) if method != "get" else None
        query: dict[str, object] = {"key": "temperature"} if path.endswith("/series") else {}
        query |= {"seconds": 1} if template == STREAM else {}
        for unknown in (None, "x", tokens.PREFIX + "x" * 43, expired, gone.token):
            answer = web.ask(path, unknown, query, method=method.upper(), body=body, headers=address)
            assert (answer.status, answer.document["status"]) == (401, 401), (path, unknown)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"].startswith("Bearer")
        if method != "get" or "{run_id}" in route:
            foreign = web.ask(path, others, method=method.upper(), body=body)
            assert foreign.status == (403 if template in OPERATORS_ALONE else 404), (path, foreign.document)
            continue
        assert web.ask(path, query=query).status == 200, path
        own = web.ask(path, token, query)
        assert own.status == (403 if template in OPERATORS_ALONE else 200), (path, own.document)
        foreign = web.ask(path, others, query)
        if "{user}" in template:
            assert foreign.status == 404, path
            nobody = web.ask(route.format(user="nobody", device="d", name="hook"), others, query)
            told = foreign.document["detail"].replace(user, "nobody")
            assert (nobody.status, nobody.document["detail"]) == (404, told)
        elif template not in {*OPERATORS_ALONE, STREAM} and path != "/openapi.json":
            assert user not in json.dumps(foreign.document), path
            assert user in json.dumps(own.document) or path == "/dead-letters", path
            assert not {"secret", "token"} & set(json.dumps(own.document).split('"')), path
            assert web.ask(path, others, {"user": user}).status == 404, path
            assert web.ask(path, token, {"user": user}).status == 200, path


def test_devices_come_by_silence_page_by_page_and_are_found(
    web: Web, database: Database, user: str, token: str
) -> None:
    """Each device once, the longest silent first, also by long ids; an ETag spares what is known already."""
    database.execute(
        "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen)"
        " SELECT %s, rpad('n' || n, 128, 'ü'), 'telemetry', now(), %s + n * interval '1 s'"
        " FROM generate_series(1, 5) AS n",
        [user, NOW],
    )
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = web.ask("/devices", token, {"limit": 2, **cursor}).document
        found += [one["device_id"].rstrip("ü") for one in page["devices"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == ["quiet", "d", "n1", "n2", "n3", "n4", "n5"]
    recent = {"user": user, "order": "recent", "limit": 3}
    newest = web.ask("/devices", query=recent).document
    assert [one["device_id"][:2] for one in newest["devices"]] == ["n5", "n4", "n3"]
    more = web.ask("/devices", query={**recent, "cursor": newest["next"]}).document
    assert [one["device_id"].rstrip("ü") for one in more["devices"]] == ["n2", "n1", "d"]
    searched = web.ask("/devices", query={"search": f"{user}/QUI"}).document["devices"]
    assert [one["path"] for one in searched] == [f"/api/v1/devices/{user}/quiet/latest"]
    answer = web.ask("/devices", token, headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert web.ask("/devices", token, headers={"If-None-Match": answer.headers["etag"]}).status == 304


def test_a_device_shows_its_newest_reading_and_its_values_over_time(
    web: Web, database: Database, user: str, token: str
) -> None:
    """Buckets begin on the hour and leave out what has no value; a field may be anywhere in the payload."""
    device = f"/devices/{user}/d"
    latest = web.ask(f"{device}/latest", token).document
    assert (latest["reading"]["sequence_id"], latest["reading"]["extra_data"]) == (3, {"a": {"b": 3}})
    assert latest["days"] == [{"day": "2026-03-02", "messages": 4, "dead_letters": 1}]
    span = {"from": "2026-03-02T12:00Z", "to": "2026-03-02T15:00Z"}

    def values(key: str, agg: str, bucket: str = "1h") -> list[tuple[str, float | None, int]]:
        told = web.ask(f"{device}/series", token, {"key": key, "agg": agg, "bucket": bucket, **span}).document
        return [(one["time"][11:16], one["value"], one["count"]) for one in told["points"]]

    assert values("temperature", "avg") == [("12:00", 21.0, 2), ("13:00", 30.0, 1)]
    assert values("temperature", "last") == [("12:00", 22.0, 2), ("13:00", 30.0, 1)]
    assert values("temperature", "max", "1d") == [("00:00", 30.0, 3)]
    assert values("a.b", "sum") == [("12:00", 1.0, 2), ("13:00", 5.0, 2)]
    for wrong, sentence in (
        ({"key": "time"}, "`key` must be one of sequence_id, temperature, battery"),
        ({"key": "battery", "bucket": "1s"}, "longer `bucket`"),
        ({"key": "battery", "bucket": "soon"}, "`bucket` must be a span"),
        ({"key": "battery", "from": "x"}, "`from` must be a span such as"),
        ({"key": "battery", "to": "2026-01-01T00:00Z"}, "The range is empty"),
    ):
        told = web.ask(f"{device}/series", token, {**span, **wrong})
        assert (told.status, sentence in told.document["detail"]) == (422, True), told.document
    # A domain's topics may give a device several levels.
    database.execute(
        "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen)"
        " VALUES (%s, 'floor 1/kitchen', 'telemetry', now(), now())",
        [user],
    )
    (deep,) = web.ask("/devices", token, {"search": "kitchen"}).document["devices"]
    assert deep["path"] == f"/api/v1/devices/{user}/floor%201%2Fkitchen/latest"
    for path in ("floor 1/kitchen/latest", "floor 1/kitchen/series"):
        assert web.ask(f"/devices/{user}/{path}", token, {"key": "temperature"}).status == 200
    unknown = web.ask(f"/devices/{user}/none/latest", token)
    assert (unknown.status, "sluice devices list" in unknown.document["detail"]) == (404, True)


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


def test_a_tenant_sets_rules_and_commands_alerts(pipeline: Stack, web: Web, user: str, token: str) -> None:  # noqa: ARG001 - workers do it
    """By the workers, with the same faults as over MQTT."""
    rule = {"id": "cold", "key": "temperature", "operator": "<", "threshold": 2, "message": "Too cold"}
    done = web.ask(f"/rules/{user}", token, method="PUT", body={"rules": [rule]})
    assert (done.status, done.document) == (200, {"rules": 1, "warnings": []})
    assert web.ask(f"/rules/{user}", token).document["rules"] == [rule]
    wrong = web.ask(f"/rules/{user}", token, method="PUT", body={"rules": [{**rule, "operator": "below"}]})
    assert (wrong.status, wrong.document["errors"][0]["path"]) == (422, "rules.0.operator")
    command = {"device_id": "d", "rule_id": "cold", "action": "SNOOZE", "duration_minutes": 5}
    assert web.ask(f"/alerts/{user}/manage", token, method="POST", body=command).document == {"ok": True}
    (alert,) = web.ask("/alerts", token, {"status": "SNOOZED"}).document["alerts"]
    assert alert["rule_id"] == "cold"
    for change, path in (({"rule_id": "none"}, "command"), ({"action": "SNOOZ"}, "action")):
        answer = web.ask(f"/alerts/{user}/manage", token, method="POST", body={**command, **change})
        assert (answer.status, answer.document["errors"][0]["path"]) == (422, path)
    answer = web.ask(f"/alerts/{user}/manage", token, method="POST", body=b"{")
    assert (answer.status, "must be JSON" in answer.document["detail"]) == (422, True)


def test_rules_are_tried_on_what_is_stored(web: Web, database: Database, user: str, token: str) -> None:
    """How often each had fired, and when; nothing is changed, and a faulty document is told its faults."""
    rules = [
        {"key": "temperature", "operator": ">", "threshold": 21, "message": "warm"},
        {"id": "cold", "key": "temperature", "operator": "<", "threshold": 0, "message": "cold"},
    ]
    asked = {"since": "2026-03-01T00:00Z", "device": "d"}
    path = f"/rules/{user}/rehearse"
    before = web.ask(f"/rules/{user}", token).document
    answer = web.ask(path, token, asked, method="POST", body=rules)
    told = answer.document
    assert (answer.status, told["readings"], told["devices"]) == (200, 4, 1), told
    assert [(one["rule_id"], one["fired"], len(one["firings"])) for one in told["rules"]] == [
        ("temperature", 1, 1),
        ("cold", 0, 0),
    ]
    assert told["rules"][0]["firings"][0]["begin"] == "2026-03-02T12:30:00Z"
    assert web.ask(f"/rules/{user}", token).document == before
    none = web.ask(path, token, {**asked, "device": "quiet"}, method="POST", body=rules)
    assert none.document["readings"] == 0
    wrong = web.ask(path, token, method="POST", body=[{**rules[0], "operator": "above"}])
    assert (wrong.status, wrong.document["errors"][0]["path"]) == (422, "rules.0.operator")
    # Of a group by its present devices.
    database.execute(
        "INSERT INTO device_groups (user_id, group_name, device_id) VALUES (%s, 'hall', 'quiet')", [user]
    )
    of_group = [{**rules[0], "devices": "@hall"}]
    grouped = web.ask(path, token, {"since": "2026-03-01T00:00Z"}, method="POST", body=of_group)
    assert (grouped.status, grouped.document["rules"][0]["fired"]) == (200, 0), grouped.document


def test_a_tenant_sets_tries_and_removes_channels(
    web: Web, stack: Stack, database: Database, user: str, token: str
) -> None:
    """With the faults of the commands, and in the operators' trail; no answer holds a secret or a path."""
    allowed = {"CHANNEL_ALLOWED_NETWORKS": "127.0.0.0/8", "CHANNEL_SCHEMES": "http,https"}
    secret = "s" * 20
    with http_receiver() as receiver, notify_worker(stack, **allowed):
        wanted = {"kind": "webhook", "target": receiver.url("/hidden"), "severities": ["critical"]}
        path = f"/channels/{user}/pager"
        unsigned = web.ask(path, token, method="PUT", body=wanted)
        assert (unsigned.status, "needs `secret`" in unsigned.document["detail"]) == (422, True)
        put = web.ask(path, token, method="PUT", body={**wanted, "secret": secret})
        assert (put.status, put.document) == (201, None)
        assert web.ask(path, token, method="PUT", body={**wanted, "enabled": False}).status == 204
        row = database.execute(
            "SELECT secret, enabled FROM channels WHERE user_id = %s AND name = 'pager'", [user]
        ).fetchone()
        assert row == (secret, False)
        assert web.ask(f"{path}/test", token, method="POST").document == {"ok": True, "why": None}
        (call,) = receiver.calls
        assert call.notice["status"] == "TEST"
        moved = {**wanted, "target": "http://localhost:1/"}
        assert web.ask(path, token, method="PUT", body=moved).status == 204
        failed = web.ask(f"{path}/test", token, method="POST").document
        assert (failed["ok"], "refused" in failed["why"].lower()) == (False, True)
    told = web.ask("/channels", token)
    shown = {one["name"]: one["target"] for one in told.document["channels"]}
    assert shown == {"hook": "https://example.com:8443/…", "pager": "http://localhost:1/…"}
    for kind, target in (
        ("webhook", "http://user:pass@Example.com/x"),
        ("webhook", "https://a@b@c:1?x"),
        ("apprise", "slack://token/other"),
        ("mail", "ada@example.com"),
    ):
        with database.transaction(force_rollback=True):
            database.execute("UPDATE channels SET kind = %s, target = %s", [kind, target])
            masked = database.execute("SELECT DISTINCT target FROM channels_shown").fetchone()
        assert masked == (channels.shown(kind, target).replace("example.com/", "Example.com/"),)
    for change, sentence in (
        ({"target": "ftp://a/"}, "the scheme ftp is not allowed"),
        ({"template": "$nothing"}, "there is no field $nothing"),
        ({"kind": "mail", "target": "a@b.example", "secret": secret}, "There is no mail server"),
    ):
        wrong = web.ask(path, token, method="PUT", body={**wanted, **change})
        assert (wrong.status, sentence in wrong.document["detail"]) == (422, True), wrong.document
    database.execute(
        "INSERT INTO channel_deliveries"
        " (channel_id, alert_id, status, time, device_id, rule_id, state, done_at)"
        " SELECT id, 'a' || n, 'TRIGGERED', now(), 'd', 'r', 'sent', now()"
        " FROM channels, generate_series(1, 3) AS n WHERE user_id = %s AND name = 'pager'",
        [user],
    )
    first = web.ask(f"{path}/deliveries", token, {"limit": 2}).document
    rest = web.ask(f"{path}/deliveries", token, {"limit": 2, "cursor": first["next"]}).document
    assert [one["alert_id"] for one in first["deliveries"] + rest["deliveries"]] == ["a3", "a2", "a1"]
    assert rest["next"] is None
    assert web.ask(path, token, method="DELETE").status == 204
    assert web.ask(path, token, method="DELETE").status == 404
    trail = database.execute(
        "SELECT action, application, after FROM operator_audit WHERE subject = 'channels' AND key = %s",
        [user],
    ).fetchall()
    assert {application for action, application, _ in trail if action == "UPDATE"} == {
        f"sluice-web/tenant {user}"
    }
    assert secret not in str(trail)


def test_a_tenant_makes_changes_and_removes_accounts(
    web: Web, database: Database, user: str, token: str
) -> None:
    """All or none, each password told once, and the operators' trail says who did it."""

    def hashed(username: str) -> str | None:
        row = database.execute(
            "SELECT password_hash, salt FROM mqtt_users WHERE username = %s", [username]
        ).fetchone()
        return None if row is None else str(row[0])

    body = {"user": user, "devices": ["new", "newer"]}
    made = web.ask("/accounts", token, method="POST", body=body)
    assert (made.status, [one["username"] for one in made.document["accounts"]]) == (
        *(201, [f"{user}/new", f"{user}/newer"]),
    )
    taken = web.ask("/accounts", token, method="POST", body={"user": user, "devices": ["newest", "new"]})
    assert (taken.status, f"already is an account {user}/new." in taken.document["detail"]) == (409, True)
    assert hashed(f"{user}/newest") is None
    before = hashed(f"{user}/new")
    rotated = web.ask(f"/accounts/{user}/new/password", token, method="POST")
    assert (rotated.status, hashed(f"{user}/new") != before) == (200, True)
    removed = web.ask(f"/accounts/{user}/new", token, method="DELETE")
    assert (removed.status, hashed(f"{user}/new")) == (204, None)
    assert web.ask(f"/accounts/{user}/new", token, method="DELETE").status == 404
    assert web.ask(f"/accounts/{user}/new/password", token, method="POST").status == 404
    invalid = web.ask("/accounts", method="POST", body={"user": user, "devices": ["a/b"]})
    assert (invalid.status, "must not contain '/'" in invalid.document["detail"]) == (422, True)
    trail = "SELECT DISTINCT role, application FROM operator_audit WHERE key = %s"
    assert database.execute(trail, [f"{user}/new"]).fetchall() == [
        ("sluice_web", f"sluice-web/tenant {user}")
    ]


def test_the_operator_makes_the_accounts_of_a_file(
    web: Web, database: Database, user: str, token: str
) -> None:
    """Line by line with its progress, each password once, all or none; what is there is left, or rotated."""
    file = "user,device\n" + "".join(f"{user},n{number}\n" for number in range(1500)) + f"{user},d\n"

    def sent(body: str, **query: object) -> list[dict[str, Any]]:
        answer = web.ask("/accounts/csv", query=query, method="POST", body=body.encode())
        assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer
        return [json.loads(line) for line in answer.document.splitlines()]

    *progress, first, second, end = sent(file)
    assert progress == [{"made": made, "of": 1500} for made in (0, 1000, 1500)]
    made = first["credentials"] + second["credentials"]
    assert [one["username"] for one in made] == [f"{user}/n{number}" for number in range(1500)]
    assert {len(one["password"]) > 30 for one in made} == {True}
    assert end == {"done": True, "made": 1500, "left": [f"{user}/d"]}
    assert database.execute(
        "SELECT count(*) FROM mqtt_users WHERE user_id = %s AND kind = 'device'", [user]
    ).fetchone() == (1501,)
    assert sent(f"user,device\n{user},d\n")[-1] == {"done": True, "made": 0, "left": [f"{user}/d"]}
    assert sent(f"user,device\n{user},d\n", rotate=True)[-1] == {"done": True, "made": 1, "left": []}
    for body, sentence in (
        (b"device\nd\n", "must name the columns"),
        (f"user,device\n{user},a/b\n".encode(), "line 2"),
        (b"user,device\n\xff\n", "not UTF-8"),
    ):
        wrong = web.ask("/accounts/csv", method="POST", body=body)
        assert (wrong.status, sentence in wrong.document["detail"]) == (422, True), wrong.document
    assert web.ask("/accounts/csv", token, method="POST", body=file.encode()).status == 403


def test_who_listens_is_told_what_changes(
    stack: Stack, role: str, database: Database, user: str, token: str
) -> None:
    """A tenant of the tenant's own; after the last event it goes on, and it ends when the process does."""

    def change(owner: str, alert: str) -> None:
        database.execute(
            "INSERT INTO alert_history (alert_id, status, user_id, device_id, rule_id, time)"
            " VALUES (%s, 'TRIGGERED', %s, 'd', 'hot', now())",
            [alert, owner],
        )

    def alerts(events: Iterator[dict[str, str]], wanted: str) -> dict[str, str]:
        """The event of that alert; nothing before it is another user's."""
        for event in events:
            if event.get("event") in {"alert", "devices"}:
                assert other not in event["data"], event
            if event.get("event") == "alert" and json.loads(event["data"])["alert_id"] == wanted:
                return event
        raise AssertionError(wanted)

    other = f"o{uuid4().hex[:8]}"
    with ExitStack() as streams:
        with web_process.running(stack, DATABASE_URL=role, STOP_GRACE_SECONDS="20") as process:
            own = streams.enter_context(process.listen(token))
            operators = streams.enter_context(process.listen(web_process.OPERATOR))
            assert next(own) == next(operators) == {"retry": "3000"}
            # The tables are read from now on; what was written before is none of its business.
            assert next(own)["event"] == next(operators)["event"] == "ready"
            change(other, f"x-{other}")
            change(user, f"x-{user}")
            told = alerts(own, f"x-{user}")
            assert json.loads(told["data"])["status"] == "TRIGGERED"
            assert any(other in event.get("data", "") for event in operators)
            database.execute("UPDATE devices SET last_seen = now(), online = true WHERE user_id = %s", [user])
            seen = next(event for event in own if event.get("event") == "devices")
            assert {one["device_id"] for one in json.loads(seen["data"])["devices"]} == {"d", "quiet"}
            change(user, f"y-{user}")
            again = streams.enter_context(process.listen(token, **{"Last-Event-ID": told["id"]}))
            alerts(again, f"y-{user}")
            for _ in range(2):
                streams.enter_context(process.listen(token))
            with pytest.raises(urllib.error.HTTPError, match="503"):
                streams.enter_context(process.listen(token))
        # The process has ended with 0 although they were open, and they with it.
        assert all(event.get("event") in {"alert", "devices", None} for event in [*own, *again])


def test_a_tenant_reaches_no_account_that_only_has_the_tenant_s_name(web: Web, database: Database) -> None:
    """Processes' accounts share their names with nobody's rights: they stay as they are, and 404 is told."""
    name = f"s{uuid4().hex[:8]}"
    provision.provision(database, accounts.service(name))
    query = "SELECT kind, password_hash FROM mqtt_users WHERE username = %s"
    before = database.execute(query, [name]).fetchone()
    tenant = tokens.create(database, name).token
    asked = [
        web.ask(f"/accounts/{name}", tenant, method="DELETE").status,
        web.ask(f"/accounts/{name}/password", tenant, method="POST").status,
        web.ask(f"/accounts/{name}", method="DELETE").status,
    ]
    assert (asked, database.execute(query, [name]).fetchone()) == ([404, 404, 404], before)
    assert web.ask("/accounts", tenant, method="POST", body={"user": name}).status == 409


def test_a_tenant_replays_the_tenants_dead_letters(
    pipeline: Stack, web: Web, database: Database, user: str, token: str
) -> None:
    """A dry run counts them; a replay is done by the workers, and shown to nobody else."""
    written = Written(pipeline, user)
    with cold_only(database, user):
        written.write([reading(number, temperature=200) for number in (7, 8)])
    tried = web.ask("/dead-letters/replays", token, method="POST", body={"dry_run": True})
    assert (tried.status, tried.document["counts"]["selected"]) == (200, 2), tried.document
    done = web.ask("/dead-letters/replays", token, method="POST", body={"since": "1h"}).document
    path = done["path"].removeprefix("/api/v1")
    wait_until(lambda: bool(web.ask(path, token).document.get("ended")), 60, "the end of the replay")
    assert web.ask(path, token).document["counts"]["replayed"] == 2
    wait_until(lambda: {7, 8} <= set(sequence_ids(database, user)), 60, "the rows")
    assert web.ask(path, tokens.create(database, "somebody").token).status == 404
    assert web.ask(path).status == 200


def test_a_tenant_closes_dead_letters_that_need_no_action(
    pipeline: Stack, web: Web, database: Database, user: str, token: str
) -> None:
    """Those that are named and no others, after they were counted; the operators' trail says whose it was."""
    Written(pipeline, user).write([b"{}", b"[]", b"[]"])
    path = "/dead-letters/acknowledgements"
    vague = web.ask(path, token, method="POST", body={"dry_run": True})
    assert (vague.status, "Say which" in vague.document["detail"]) == (422, True)
    body = {"error_type": "NotAnObject", "since": "1h"}
    counted = web.ask(path, token, method="POST", body={**body, "dry_run": True}).document
    assert counted == {"letters": 2, "dry_run": True, "run_id": None}
    done = web.ask(path, token, method="POST", body=body).document
    assert done["letters"] == 2
    assert web.ask(path, token, method="POST", body=body).document["letters"] == 0
    left = web.ask("/dead-letters", token).document
    assert [one["error_type"] for one in left["groups"]] == ["MissingField"]
    trail = (
        "SELECT role, application, after ->> 'letters' FROM operator_audit WHERE key = %s"
        " AND action = 'ACKNOWLEDGE'"
    )
    assert database.execute(trail, [done["run_id"]]).fetchall() == [
        ("sluice_web", f"sluice-web/tenant {user}", "2")
    ]


def test_what_is_away_is_said_and_everything_else_answered(web: Web, stack: Stack, token: str) -> None:
    """The operator reads which server and where, a tenant only that; it works again when the server does."""
    stack.stop("postgres")
    try:
        operators, tenants = web.ask("/devices"), web.ask("/devices", token)
        status = web.ask("/status").document
    finally:
        stack.start("postgres")
    assert (operators.status, operators.headers["retry-after"]) == (503, "5")
    assert "Check DATABASE_URL" in operators.document["detail"]
    assert (tenants.status, "127.0.0.1" in json.dumps(tenants.document)) == (503, False)
    assert "away" in status["alerts"]
    assert status["problems"]
    assert web.ask("/devices", token).status == 200


def test_a_slow_query_is_cut_off_and_says_how_to_ask_for_less(
    web: Web, stack: Stack, user: str, token: str
) -> None:
    """504 when its time is over, also with more requests than connections; then all is as before."""
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as connection, ThreadPoolExecutor(12) as pool:
        connection.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        answers = list(pool.map(lambda _: web.ask("/devices", token), range(12)))
        assert time.monotonic() - begun < 20
    assert {one.status for one in answers} <= {503, 504}
    slow = next(one for one in answers if one.status == 504)
    assert "Ask for less: a shorter range" in slow.document["detail"]
    assert web.ask("/devices", query={"user": user}).status == 200


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
                STREAM,
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
