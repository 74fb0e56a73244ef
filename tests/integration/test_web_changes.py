"""The HTTP API changes what a tenant may change, and the operators' trail says who did it."""

import json
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from compose.local.stack import Stack
from ingest.admin.accounts import tokens
from ingest.admin.alerting import channels
from tests.integration.fleet import wait_until
from tests.integration.notify_process import notify_worker
from tests.integration.receivers import http_receiver
from tests.integration.stream import Written, cold_only, reading, sequence_ids
from tests.integration.web_process import Web
from tests.integration.web_tenant import Database, role, token, user, web

__all__ = ["role", "token", "user", "web"]

# The workers do some of it, and all of it may be done beside them.
pytestmark = pytest.mark.usefixtures("pipeline")


def test_a_tenant_sets_rules_and_commands_alerts(web: Web, user: str, token: str) -> None:
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


def test_rules_that_somebody_has_changed_are_not_replaced(
    web: Web, database: Database, user: str, token: str
) -> None:
    """By `If-Match` with the ETag of the rules as they were read; without it the last one wins, as before."""
    path = f"/rules/{user}"

    def put(threshold: int, tag: str | None) -> tuple[int, str]:
        rule = {"key": "temperature", "operator": ">", "threshold": threshold, "message": "warm"}
        headers = {} if tag is None else {"If-Match": tag}
        answer = web.ask(path, token, method="PUT", body=[rule], headers=headers)
        if answer.status == 412:
            assert answer.headers["content-type"] == "application/problem+json"
            assert "read them again" in answer.document["detail"]
        return answer.status, web.ask(path, token).headers["etag"]

    first = web.ask(path, token).headers["etag"]
    done, second = put(1, first)
    assert (done, second == first) == (200, False)
    assert put(2, first) == (412, second)
    assert put(2, f"{first}, W/{second}") == (412, second)
    assert web.ask(path, token).document["rules"][0]["threshold"] == 1
    assert web.ask(path, token, headers={"If-None-Match": second}).status == 304
    assert [put(number, tag)[0] for number, tag in ((3, f"{first}, {second}"), (4, "*"), (5, None))] == [
        200
    ] * 3
    wrong = web.ask(path, token, method="PUT", body=[{}], headers={"If-Match": first})
    assert (wrong.status, wrong.document["errors"][0]["path"][:8]) == (422, "rules.0.")
    database.execute("DELETE FROM user_configs WHERE user_id = %s", [user])
    none = web.ask(path, token).headers["etag"]
    assert [put(6, none)[0], put(7, none)[0]] == [200, 412]


def test_rules_are_tried_on_what_is_stored(web: Web, database: Database, user: str, token: str) -> None:
    """How often each had fired, and when; nothing is changed, and a faulty document gets its faults."""
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
    # A group counts by its present devices.
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
    """All or none, each password shown once, and the operators' trail says who did it."""

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


def test_a_tenant_replays_the_tenants_dead_letters(
    pipeline: Stack, web: Web, database: Database, user: str, token: str
) -> None:
    """A dry run counts them; a replay is done by the workers, and shown to nobody else."""
    written = Written(pipeline, user)
    with cold_only(database, user):
        written.write([reading(number, temperature=200) for number in (7, 8)])
    # One that has not ended, and whose worker may only be slow.
    other = f"of-{user}"
    database.execute(
        "INSERT INTO replays (run_id, kind, arguments, owned_until) VALUES"
        " (%s, 'dead_letters', %s, now() + interval '1 min')",
        [other, Jsonb({"filters": {"user": user}, "dry_run": True})],
    )
    tried = web.ask("/dead-letters/replays", token, method="POST", body={"dry_run": True})
    assert (tried.status, tried.headers["retry-after"]) == (429, "10"), tried.document
    # One whose worker is gone, and no other has taken it over.
    database.execute("UPDATE replays SET updated_at = now() - interval '6 min' WHERE run_id = %s", [other])
    tried = web.ask("/dead-letters/replays", token, method="POST", body={"dry_run": True})
    database.execute("DELETE FROM replays WHERE run_id = %s", [other])
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
    told = web.ask("/dead-letters", token, {"error_type": "NotAnObject"}).document["groups"]
    one_of_them = {"error_type": "NotAnObject", "hour": told[0]["hour"]}
    looked = web.ask("/dead-letters", token, one_of_them).document
    assert (looked["total"], looked["groups"]) == (told[0]["letters"], [told[0]])
    counted = web.ask(path, token, method="POST", body={**one_of_them, "dry_run": True}).document
    assert counted["letters"] == told[0]["letters"]
    for other in ({"hour": "1d"}, {"hour": told[0]["hour"], "until": "2h"}):
        assert web.ask("/dead-letters", token, other).document["total"] == 0
        assert web.ask(path, token, method="POST", body={**other, "dry_run": True}).document["letters"] == 0
    tried = web.ask("/dead-letters/replays", token, method="POST", body={**one_of_them, "dry_run": True})
    assert (tried.status, tried.document["counts"]["selected"]) == (200, told[0]["letters"]), tried.document
    beyond = web.ask("/dead-letters", token, {"hour": "9999-12-31T23:30Z"})
    assert (beyond.status, "`hour`" in beyond.document["detail"]) == (422, True)
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
