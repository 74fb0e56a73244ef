"""The HTTP API: who sees what, what it says, and what it says when it cannot."""

import base64
import json
import time
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision, tokens
from tests.integration import web_process
from tests.integration.commands import sluice
from tests.integration.web_process import Web
from tests.integration.web_tenant import NOW, Database, dead_letter, role, token, user, web

__all__ = ["role", "token", "user", "web"]

OPERATORS_ALONE = {"/api/v1/status", "/api/v1/accounts/csv"}


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
    letter = dead_letter(stack, user, b"[")
    routes = [(path, method) for path, methods in document["paths"].items() for method in methods]
    assert len(routes) >= 10
    for number, (template, method) in enumerate(routes):
        route = template.removeprefix("/api/v1")
        path = route.format(user=user, device="d", name="hook", run_id="none", key=letter)
        # Unknown tokens of one address have a limit.
        address = {"X-Forwarded-For": f"192.0.2.{number}"}
        body = bodies.get(route) if method != "get" else None
        query: dict[str, object] = {"key": "temperature"} if path.endswith("/series") else {}
        query |= {"seconds": 1} if template == web_process.STREAM else {}
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
        elif template not in {*OPERATORS_ALONE, web_process.STREAM} and path != "/openapi.json":
            assert user not in json.dumps(foreign.document), path
            assert foreign.status == (404 if "{key}" in template else 200), path
            assert user in json.dumps(own.document) or path == "/dead-letters", path
            assert not {"secret", "token"} & set(json.dumps(own.document).split('"')), path
            assert web.ask(path, others, {"user": user}).status == 404, path
            assert web.ask(path, token, {"user": user}).status == 200, path


def test_one_dead_letter_is_told_whole(
    web: Web, stack: Stack, database: Database, user: str, token: str
) -> None:
    """All of its payload, what came with it, why, and from where; by the path that the list gives.

    Another tenant gets the same 404 as for one that does not exist.
    """
    payload = b'["' + "ü".encode() * 5000 + b"\xff"
    key = dead_letter(stack, user, payload)
    (listed,) = web.ask("/dead-letters", token).document["letters"]
    assert (listed["key"], listed["payload_cut"]) == (key, True)
    told = web.ask(listed["path"].removeprefix("/api/v1"), token)
    assert told.status == 200, told.document
    assert base64.b64decode(told.document.pop("payload_base64")) == payload
    at = told.document.pop("timestamp")
    assert datetime.fromisoformat(at) == datetime.fromisoformat(listed["timestamp"])
    assert told.document == {
        "key": key,
        "state": "cannot be replayed",
        "error_type": "InvalidJson",
        "error": "said why",
        "attempts": 1,
        "user_id": user,
        "device_id": "d",
        "original_topic": f"users/{user}/devices/d/telemetry",
        "content_type": "text/plain",
        "traceparent": None,
        "kafka_topic": None,
        "kafka_partition": None,
        "kafka_offset": None,
        "kafka_timestamp_ms": None,
        "first_place": None,
        "elements": [],
        "stored": None,
        "payload": None,
        "payload_bytes": len(payload),
        "payload_cut": False,
    }
    path = f"/dead-letters/letters/{key}"
    done = web.ask("/dead-letters/acknowledgements", token, method="POST", body={"device": "d"})
    assert done.document["letters"] == 1, done.document
    assert web.ask(path).document["state"] == "acknowledged"
    others = tokens.create(database, f"o{uuid4().hex[:8]}").token
    foreign, none = web.ask(path, others), web.ask(f"{path}0", others)
    assert (foreign.status, none.status) == (404, 404)
    assert foreign.document["detail"].replace(key, "") == none.document["detail"].replace(f"{key}0", "")
    assert web.ask(path, token, {"domain": "x"}).status == 422


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


def test_a_filter_that_matches_nothing_says_which_values_there_are(
    web: Web, database: Database, user: str, token: str
) -> None:
    """The operator reads of all users, a tenant of the own alone; otherwise nothing is said."""
    other = f"o{uuid4().hex[:8]}"
    # So many that nobody else can be more frequent than all but nine.
    database.execute(
        "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen)"
        " SELECT %s, 'theirs' || n, 'telemetry', now() + interval '1 min', now() + interval '1 min'"
        " FROM generate_series(1, 1000) AS n",
        [other],
    )

    def known(path: str, who: str | None, **query: object) -> dict[str, list[str]] | None:
        told: dict[str, list[str]] | None = web.ask(path, who, query).document["known"]
        return told

    assert known("/devices", token, search="nowhere") == {"search": [f"{user}/d", f"{user}/quiet"]}
    assert known("/devices", token, silent="5000w", online="true") == {
        "online": ["unknown"],
        "last_seen": [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (NOW - timedelta(hours=1), NOW)],
    }
    standing = known("/alerts", token, device="x", status="DISABLED")
    assert standing == {"device": ["d"], "status": ["TRIGGERED"]}
    told = known("/alerts/history", token, device="x", **{"from": "1s"})
    assert told is not None
    assert (told["device"], len(told["time"])) == (["d"], 2)
    letters = known("/dead-letters", token, device="x", error_type="Typo", since="2h")
    assert letters == {"device": [], "error_type": [], "refused_at": []}
    for path in ("/devices", "/alerts", "/alerts/history"):
        assert known(path, token) is None
        assert known(path, token, user=user) is None
    nobody = known("/devices", web_process.OPERATOR, user=f"x{user}")
    database.execute("DELETE FROM devices WHERE user_id = %s", [other])
    assert nobody is not None
    assert other in nobody["user"]
    unknown = web.ask("/devices", token, {"domain": "x"})
    assert (unknown.status, "telemetry" in unknown.document["detail"]) == (422, True), unknown.document


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
        connection.execute("LOCK TABLE devices, active_alerts IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        answers = list(pool.map(lambda _: web.ask("/devices", token), range(12)))
        assert time.monotonic() - begun < 20
        status = web.ask("/status").document
        assert "pg_locks" in status["alerts"]["away"]
    assert {one.status for one in answers} <= {429, 503, 504}
    slow = next(one for one in answers if one.status == 504)
    assert "Ask for less: a shorter range" in slow.document["detail"]
    assert web.ask("/devices", query={"user": user}).status == 200
