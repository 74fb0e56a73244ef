"""The console: what its pages show and do."""

import csv
import json
import re
from typing import Any
from uuid import uuid4

from psycopg.types.json import Jsonb

from ingest.admin.accounts import accounts, passwords, provision, tokens
from ingest.console import render
from tests.integration.console_client import Page, Person, token
from tests.integration.console_fixtures import Database, user, web
from tests.integration.web_process import OPERATOR, Web

__all__ = ["user", "web"]


def test_what_a_page_shows_is_text(web: Web, database: Database, user: str) -> None:
    """Markup in a rule's message, which a tenant writes, is shown and not obeyed."""
    person = Person(web)
    page = person.sign_in(secret=tokens.create(database, user).token)
    assert "1 alert is open" in page.text
    for path in ("/", "/alerts", "/device", "/alert"):
        page = person.get(path, user=user, device="fridge", rule="hot")
        assert ("&lt;b&gt;Too hot" in page.source, "<b>" in page.source) == (True, False), path


def test_devices_are_found_page_by_page_and_one_has_a_chart(web: Web, database: Database, user: str) -> None:
    """The longest silent first; the values of a field of the payload, drawn and as a table."""
    database.execute(
        "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen)"
        " SELECT %s, 'd' || lpad(n::text, 3, '0'), 'telemetry', now(), now() - n * interval '1 h'"
        " FROM generate_series(1, 60) AS n",
        [user],
    )
    for number in range(40):
        database.execute(
            "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature, extra_data)"
            " VALUES (now() - %s * interval '10 min', %s, 'd001', %s, %s, %s)",
            [number, user, number, 20 + number / 10, Jsonb({"load": {"cpu": number}, "rpm": 7})],
        )
    database.execute(
        "UPDATE devices SET own_time = now() - interval '1 h' WHERE user_id = %s AND device_id = 'd001'",
        [user],
    )
    person = Person(web)
    person.sign_in(secret=tokens.create(database, user).token)
    first = person.get("/devices")
    assert re.findall(r"/(d\d+)</a>", first.text)[:2] == ["d060", "d059"]
    following = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert following
    second = person.get(following[1])
    assert re.findall(r"/(d\d+|fridge)</a>", second.text)[-2:] == ["d001", "fridge"]
    assert re.findall(r"/(d\d+)</a>", person.get("/devices", search="D01", order="recent").text)[0] == "d010"
    nothing = person.get("/devices", silent="90d", search="nowhere")
    assert "No device matches" in nothing.text
    assert f"<dt>devices</dt><dd>{user}/fridge" in nothing.text
    assert "<dt>last seen</dt><dd>" in nothing.text
    wrong = person.get("/devices", silent="soon")
    assert (wrong.status, "`silent` must be" in wrong.text) == (422, True)
    for key, span in (("", "day"), ("load.cpu", "month"), ("temperature", "hour")):
        page = person.get("/device", user=user, device="d001", key=key, span=span)
        assert ("<polyline" in page.text or "<circle" in page.text, '<th scope="col">Mean' in page.text) == (
            *(True, True),
        ), key
    assert '<option value="rpm">' in page.text
    faulty = person.get("/device", user=user, device="d001", key="user_id")
    assert (faulty.status, "`key` must be one of" in faulty.text) == (200, True)
    assert person.get("/device", user=user, device="none").status == 404


def test_a_month_is_drawn_by_the_rollups(web: Web, database: Database, user: str) -> None:
    """Where they are complete; a day by the rows, and a field that is not a column, too."""
    before = database.execute("SELECT complete FROM rollup_progress WHERE domain = 'telemetry'").fetchone()
    database.execute(
        "INSERT INTO rollups_hourly"
        " SELECT %s, 'fridge', 'temperature', date_trunc('hour', now()) - n * interval '1 h', 'telemetry',"
        " n, 1, 9, 1234 * n, 5 FROM generate_series(1, 2) AS n",
        [user],
    )
    person = Person(web)
    person.sign_in(secret=tokens.create(database, user).token)

    def page(key: str, span: str) -> str:
        return person.get("/device", user=user, device="fridge", key=key, span=span).text

    database.execute(
        "INSERT INTO rollup_progress (domain, complete) VALUES ('telemetry', true)"
        " ON CONFLICT (domain) DO UPDATE SET complete = true"
    )
    try:
        assert '<td class="number">1234</td>' in page("temperature", "month")
        assert "temperature has no values in the last day" in page("temperature", "day")
        assert "a.b has no values in the last month" in page("a.b", "month")
    finally:
        if before is None:
            database.execute("DELETE FROM rollup_progress WHERE domain = 'telemetry'")
        else:
            database.execute(
                "UPDATE rollup_progress SET complete = %s WHERE domain = 'telemetry'", [before[0]]
            )


def test_the_worst_alert_is_first(web: Web, database: Database, user: str) -> None:
    """Alerts that nobody has acknowledged, by severity, the oldest first; and how many there are."""
    for number, (rule, severity, acknowledged) in enumerate(
        [("b", "info", None), ("c", "critical", None), ("d", "critical", "now"), ("e", "critical", None)]
    ):
        database.execute(
            "INSERT INTO active_alerts (alert_id, status, user_id, device_id, rule_id, severity, message,"
            " count, first_seen, acknowledged_at, acknowledged_by)"
            " VALUES (%s, 'TRIGGERED', %s, 'fridge', %s, %s, %s, 1, now() - %s * interval '1 min', %s, %s)",
            [f"{rule}-{user}", user, rule, severity, f"alert {rule}", number, acknowledged, acknowledged],
        )
    person = Person(web)
    page = person.sign_in(secret=tokens.create(database, user).token)
    assert "5 alerts are open." in page.text
    assert re.findall(r">(alert \w|<b>Too hot</b>)</a>", page.text) == (
        ["alert e", "alert c", "<b>Too hot</b>", "alert b", "alert d"]
    )
    listed = person.get("/alerts", view="acknowledged").text
    assert re.findall(r">(alert \w)</a>", listed) == ["alert d"]


def test_a_filter_that_matches_nothing_says_which_values_there_are(
    web: Web, database: Database, user: str
) -> None:
    """On each page with a list; a tenant reads of nobody else."""
    person = Person(web)
    person.sign_in(secret=tokens.create(database, user).token)
    assert "<dt>statuses</dt><dd>TRIGGERED</dd>" in person.get("/alerts", view="disabled").text
    assert 'id="known"' not in person.get("/alerts", view="open").text
    assert "<dt>acknowledged</dt><dd>no</dd>" in person.get("/alerts", view="acknowledged").text
    assert "<dt>devices</dt><dd>none</dd>" in person.get("/alerts/history", device="x").text
    assert "<dt>reasons</dt><dd>none</dd>" in person.get("/dead-letters", error_type="x").text
    operator = Person(web)
    operator.sign_in(secret=OPERATOR)
    assert re.search(r"<dt>users</dt><dd>[^<]+</dd>", operator.get("/alerts", view="all", user="nobody").text)


def test_an_alert_says_who_was_told_of_it_and_who_was_not(web: Web, database: Database, user: str) -> None:
    """Each change for each of the user's channels, by name and kind; not where one leads."""
    other = f"o{uuid4().hex[:8]}"

    def channel(owner: str, name: str) -> int:
        target = f"https://hooks.example.com/{name}-address"
        number: int
        (number,) = database.execute(
            "INSERT INTO channels (user_id, name, kind, target, enabled)"
            " VALUES (%s, %s, 'webhook', %s, false) RETURNING id",
            [owner, name, target],
        ).fetchone() or (0,)
        return number

    oncall, foreign = channel(user, "oncall"), channel(other, "foreign")
    for number, state, attempts, why, status, rule in (
        (oncall, "sent", 1, None, "TRIGGERED", "hot"),
        (oncall, "failed", 7, "<b>the server answered 410", "ESCALATED", "hot"),
        (oncall, "waiting", 2, "the server answered 503", "ACKNOWLEDGED", "hot"),
        (oncall, "held", 0, "held back by the window night", "RESOLVED", "hot"),
        (oncall, "failed", 3, "of another rule", "DISABLED", "cold"),
        (foreign, "failed", 4, "of another user", "SNOOZED", "hot"),
    ):
        database.execute(
            "INSERT INTO channel_deliveries (channel_id, alert_id, status, rise, time, device_id, rule_id,"
            " state, attempts, why, next_at, done_at, held_until)"
            " VALUES (%(channel)s, %(alert)s, %(status)s, %(rise)s, now(), 'fridge', %(rule)s,"
            " %(state)s, %(attempts)s, %(why)s, timestamptz '2030-01-01 06:00Z',"
            " CASE WHEN %(state)s IN ('sent', 'failed') THEN timestamptz '2026-05-01 10:00Z' END,"
            " CASE WHEN %(state)s = 'held' THEN timestamptz '2030-01-01 07:00Z' END)",
            {
                "channel": number,
                "alert": f"a-{user}",
                "status": status,
                "rise": "critical" if status == "ESCALATED" else "",
                "rule": rule,
                "state": state,
                "attempts": attempts,
                "why": why,
            },
        )
    tenant, operator = Person(web), Person(web)
    tenant.sign_in(secret=tokens.create(database, user).token)
    operator.sign_in(secret=OPERATOR)
    at = "2026-05-01 10:00:00 UTC"
    for person in (tenant, operator):
        page = person.get("/alert", user=user, device="fridge", rule="hot")
        told = page.source.partition('id="told"')[2]
        rows = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in told.split("<tr>")[2:]]
        assert {(one[0], *one[2:6]) for one in rows} == {
            ("TRIGGERED", "oncall, webhook", "sent", at, "1"),
            ("ESCALATED to critical", "oncall, webhook", "failed", at, "7"),
            ("ACKNOWLEDGED", "oncall, webhook", "waiting", "next attempt 2030-01-01 06:00:00 UTC", "2"),
            ("RESOLVED", "oncall, webhook", "held", "until 2030-01-01 07:00:00 UTC", "0"),
        }
        assert {one[6] for one in rows} == {
            *(render.DASH, "&lt;b&gt;the server answered 410", "the server answered 503"),
            "held back by the window night",
        }
        for never in ("example.com", "-address", "foreign", "of another"):
            assert never not in page.text, never
    database.execute("DELETE FROM channels WHERE user_id IN (%s, %s)", [user, other])
    assert "No channel was notified" in tenant.get("/alert", user=user, device="fridge", rule="hot").text


def test_rules_are_tried_on_history_before_they_are_in_force(web: Web, database: Database, user: str) -> None:
    """As they are typed: how often each would have fired and when, and over a device's field."""
    database.execute(
        "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature)"
        " SELECT now() - n * interval '1 h', %s, 'fridge', n, CASE WHEN n IN (30, 60) THEN 9 ELSE 4 END"
        " FROM generate_series(1, 100) AS n",
        [user],
    )
    hot = {"id": "hot", "key": "temperature", "operator": ">", "threshold": 8, "message": "hot"}
    cold = {**hot, "id": "cold", "operator": "<", "threshold": 1}
    person = Person(web)
    person.sign_in(secret=tokens.create(database, user).token)

    def tried(rules: list[dict[str, Any]], **fields: str) -> Page:
        return person.send(
            "/rules/rehearse", "/rules", user=user, document=json.dumps(rules), seen="now", **fields
        )

    page = tried([hot, cold])
    assert page.status == 200, page
    assert "100 readings of 1 device in the last week" in page.text
    assert "hot: would have fired 2 times on 1 device, open for 2 h in all; 0 flaps" in page.text
    assert "cold: would not have fired" in page.text
    assert (page.text.count('<rect class="open"'), "<circle" in page.text) == (2, False)
    # Typed, and not stored; who has changed the rules meanwhile is still told.
    assert ('"threshold": 8' in page.text, 'name="seen" value="now"' in page.text) == (True, True)
    assert '"rules": []' in person.get("/rules").text
    drawn = tried([hot], since="2d", device="fridge")
    assert "1 device, open for 1 h in all" in drawn.text
    assert (drawn.text.count('<rect class="open"'), "<circle" in drawn.text) == (1, True)
    assert 'name="since" maxlength="40" size="10" value="2d"' in drawn.text
    nothing = tried([{**hot, "key": "mode", "operator": "==", "threshold": "on"}], device="none", since="1h")
    assert (nothing.status, "0 readings of 0 devices since" in nothing.text) == (200, True)
    for rules, fields, said in (
        ([{**hot, "operator": "above"}], {}, "rules.0.operator"),
        ([hot], {"since": "soon"}, "`since` must be a span"),
        ([hot], {"domain": "nothing"}, "`domain`"),
        ([hot], {"device": "d" * 300}, "at most 200 characters"),
    ):
        wrong = tried(rules, **fields)
        assert (wrong.status, "Nothing was tried:" in wrong.text, said in wrong.text) == (422, True, True)


def test_accounts_are_made_and_their_passwords_shown_once(web: Web, database: Database, user: str) -> None:
    """All or none, each with a password that the broker's table knows; rotated; removed."""
    person = Person(web)
    person.sign_in(secret=tokens.create(database, user).token)
    made = person.send("/accounts", "/accounts", devices="oven\r\n pump \r\n")
    found = re.findall(rf'scope="row">{user}/(\w+)</th><td><code>([\w-]+)</code>', made.text)
    assert [name for name, _ in found] == ["oven", "pump"]
    assert made.headers["cache-control"] == "no-store"
    again = person.send("/accounts", "/accounts", devices="pump\nnew")
    assert (again.status, "already is an account" in again.text) == (409, True)
    page = person.get("/account", user=user, device="pump")
    rotated = person.post("/account/password", form_token=token(page), user=user, device="pump")
    (secret,), old = re.findall(r"<code>([\w-]+)</code>", rotated.text), found[1][1]
    stored, salt = database.execute(
        "SELECT password_hash, salt FROM mqtt_users WHERE username = %s", [f"{user}/pump"]
    ).fetchone() or ("", "")
    assert stored == passwords.hash_password(secret, salt) != passwords.hash_password(old, salt)
    removed = person.post("/account/remove", form_token=token(page), user=user, device="pump")
    assert (removed.status, "The account is removed" in removed.text) == (200, True)
    assert person.get("/account", user=user, device="pump").status == 404


def test_the_accounts_of_a_file_are_looked_at_and_then_made(web: Web, database: Database, user: str) -> None:
    """The page says what becomes of each line; passwords come once, as a file; old accounts keep theirs."""
    kept = provision.provision(database, accounts.device(user, "fridge"))
    tenant, person = Person(web), Person(web)
    tenant.sign_in(secret=tokens.create(database, user).token)
    person.sign_in(secret=OPERATOR)
    file = f"\ufeffuser,device,room\r\n{user},fridge,1\r\n{user},oven,2\r\n{user},,3\r\n".encode()
    looked = person.upload("/accounts/csv", "/accounts", file)
    assert "2 accounts are to be made; 1 is there already. Nothing has been changed." in looked.text
    assert re.findall(r'scope="row">([^<]+)</th><td>([^<]+)<', looked.text) == [
        (f"{user}/fridge", "is there, and keeps its password"),
        (f"{user}/oven", "is made"),
        (user, "is made"),
    ]
    found = re.search(r'name="document" value="([^"]+)"', looked.text)
    assert found
    fields = {"user": user, "document": found[1]}

    def made(**more: str) -> dict[str, str]:
        answer = person.upload("/accounts/csv/make", "/accounts", b"", **fields, **more)
        assert answer.status == 200, answer
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["cache-control"] == "no-store"
        head, *rows = csv.reader(answer.source.splitlines())
        assert head == ["user", "device", "username", "password"]
        return {username: password for _, _, username, password in rows}

    def holds(username: str, password: str) -> bool:
        row = database.execute("SELECT password_hash, salt FROM mqtt_users WHERE username = %s", [username])
        stored, salt = row.fetchone() or ("", "")
        return bool(stored == passwords.hash_password(password, salt))

    first = made()
    assert list(first) == [f"{user}/oven", user]
    assert all(holds(*one) for one in first.items())
    assert holds(*kept)
    again = person.upload("/accounts/csv/make", "/accounts", b"", **fields)
    assert (again.status, "there already" in again.text) == (409, True)
    assert list(made(rotate="yes")) == [f"{user}/fridge", f"{user}/oven", user]
    assert not holds(*kept)
    for body, said in (
        (b"", "must name the columns"),
        (f"user,device\n{user},a/b\n{user}\n".encode(), "line 3: 1 columns"),
        (b"user,device\n\xff\n", "not UTF-8"),
        (b"user,device\n" + b"".join(b"u,d%d\n" % number for number in range(10_001)), "10,000 accounts"),
        (b"user,device\n" + b"x" * 1_500_000, "1,500,000 bytes"),
    ):
        wrong = person.upload("/accounts/csv", "/accounts", body)
        assert (wrong.status, said in wrong.text) == (422, True), said
    assert tenant.upload("/accounts/csv", "/accounts", file).status == 403
    assert 'id="csv"' not in tenant.get("/accounts").text
