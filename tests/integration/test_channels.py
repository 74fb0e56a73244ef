"""Channels: each change told by webhook and mail, under one key, whoever fails, hangs or dies."""

import hashlib
import hmac
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.admin import channels
from tasks import deliver_channels
from tasks import settings as tasks_settings
from tasks.channels import retries, tables, trial, turns, wake
from tasks.channels.outcome import Never, Sent
from tasks.rules.parsing import parse_rules
from tasks.servers.database import access
from tasks.servers.redis_client import CHANNELS_QUEUED, client
from tests.integration import pages
from tests.integration.changes import Database, deliver_and_die, empty_outbox, flap, judge, write_tables
from tests.integration.commands import sluice
from tests.integration.fleet import wait_until
from tests.integration.notify_process import notify_worker
from tests.integration.receivers import Answer, http_receiver, mail_server

PROJECT = Path(deliver_channels.__file__).resolve().parents[1]
OF_USER = "FROM channel_deliveries JOIN channels ON channels.id = channel_id WHERE user_id = %s"

Set = Callable[..., None]


@pytest.fixture
def user(in_process: None, database: Database) -> Iterator[str]:  # noqa: ARG001 - it must come first
    """A user of the test's own, whose channels go with the test."""
    name = uuid4().hex[:8]
    with empty_outbox():
        yield name
    database.execute("DELETE FROM channels WHERE user_id = %s", [name])


@pytest.fixture
def setting(user: str, monkeypatch: pytest.MonkeyPatch) -> Set:  # noqa: ARG001 - it must come first
    """Sets settings of this process, which may tell this machine; retries come soon."""
    monkeypatch.setattr(retries, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(retries, "MOST_REST_SECONDS", 0.05)

    def set_them(**values: str) -> None:
        for variable, value in values.items():
            monkeypatch.setenv(variable, value)
        tasks_settings.settings.cache_clear()

    set_them(
        CHANNEL_SCHEMES="http,https,mailto",
        CHANNEL_ALLOWED_NETWORKS="127.0.0.0/8",
        CHANNEL_MESSAGES_PER_MINUTE="1000000",
    )
    return set_them


def add(database: Database, user: str, name: str, kind: str, target: str, **more: Any) -> None:
    """A channel, set by SQL."""
    columns = {"user_id": user, "name": name, "kind": kind, "target": target, **more}
    names = ", ".join(columns)
    places = ", ".join(["%s"] * len(columns))
    database.execute(f"INSERT INTO channels ({names}) VALUES ({places})", list(columns.values()))


def deliveries(database: Database, user: str) -> Counter[tuple[str, str]]:
    """How many deliveries each channel of the user has in each state."""
    found = database.execute(f"SELECT name, state {OF_USER}", [user])
    return Counter((name, state) for name, state in found)


def deliver_until(done: Callable[[], bool], what: str) -> None:
    """Runs the task as a worker does, until something is so."""

    def look() -> bool:
        deliver_channels.deliver()
        return done()

    wait_until(look, 60, what)


def none_waits(database: Database, user: str) -> Callable[[], bool]:
    """Whether nothing of the user waits."""
    return lambda: not any(state == "waiting" for _, state in deliveries(database, user))


def test_each_change_is_told_once_signed_by_webhook_and_by_mail(
    user: str, database: Database, setting: Set
) -> None:
    """By each channel of its severity and status, in order; the receiver can verify who sent it and when."""
    secret = "0123456789abcdef"  # noqa: S105 - of this test alone
    with http_receiver() as receiver, mail_server() as mailbox:
        setting(
            SMTP_HOST="127.0.0.1", SMTP_PORT=str(mailbox.port), SMTP_SECURITY="none", SMTP_FROM="a@b.example"
        )
        add(
            database,
            user,
            "hook",
            "webhook",
            receiver.url(),
            secret=secret,
            template="$device_id is $message",
        )
        add(database, user, "post", "mail", "ada@example.com", statuses=["TRIGGERED"])
        add(database, user, "night", "webhook", receiver.url("/night"), severities=["critical"])
        flap(user, "d1", 2)
        write_tables()
        # What exists already is not told again.
        write_tables()
        mailbox.replies = ["451 try again later"]
        deliver_until(none_waits(database, user), "the channels to be told")
    assert deliveries(database, user) == {("hook", "sent"): 4, ("post", "sent"): 2}
    assert [call.notice["status"] for call in receiver.calls] == ["TRIGGERED", "RESOLVED"] * 2
    for call in receiver.calls:
        assert call.key == f"{call.notice['alert_id']}/{call.notice['status']}"
        signed = call.headers["sluice-timestamp"].encode() + b"." + call.content
        wanted = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        assert call.headers["sluice-signature"] == f"v1={wanted}"
        assert call.notice["text"] == "d1 is hot"
        assert call.notice["first_seen"].endswith("Z")
    assert [mail["Subject"] for mail in mailbox.mails] == ["[warning] TRIGGERED d1: hot"] * 2
    assert {mail["Idempotency-Key"] for mail in mailbox.mails} == {
        call.key for call in receiver.calls if call.notice["status"] == "TRIGGERED"
    }


def test_each_rise_of_an_alert_is_told_once(user: str, database: Database, setting: Set) -> None:
    """Each by a key of its own; a channel of the highest severity hears when it is reached, and the end."""
    del setting
    steps = [{"severity": "serious", "threshold": 90}, {"severity": "critical", "threshold": 100}]
    rule = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot", "escalate": steps}
    with http_receiver() as receiver:
        add(database, user, "all", "webhook", receiver.url("/all"))
        add(database, user, "night", "webhook", receiver.url("/night"), severities=["critical"])
        judge(user, "d1", (0, 85.0), (1, 95.0), (2, 105.0), (3, 20.0), rules=parse_rules({"rules": [rule]}))
        write_tables()
        write_tables()
        deliver_until(none_waits(database, user), "the channels to be told")
    told = {
        path: [
            (call.notice["status"], call.notice["severity"]) for call in receiver.calls if call.path == path
        ]
        for path in ("/all", "/night")
    }
    risen = [("ESCALATED", "serious"), ("ESCALATED", "critical"), ("RESOLVED", "critical")]
    assert told == {"/all": [("TRIGGERED", "warning"), *risen], "/night": risen[1:]}
    assert len({call.key for call in receiver.calls}) == 4


def test_an_alert_that_flaps_is_told_once(user: str, database: Database, setting: Set) -> None:
    """By a key of its own, and then its end; a channel tells it unless it has statuses of its own."""
    del setting
    rule = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}
    rules = parse_rules([rule | {"flapping": {"changes": 2, "minutes": 5}}])
    with http_receiver() as receiver:
        add(database, user, "all", "webhook", receiver.url())
        readings = [(second, 20.0 if second % 2 else 90.0) for second in range(30)]
        judge(user, "d1", *readings, (400, 20.0), rules=rules)
        write_tables()
        deliver_until(none_waits(database, user), "the channel to be told")
    keys = [call.key.split("/") for call in receiver.calls]
    assert [status for _, status in keys] == ["TRIGGERED", "RESOLVED", "FLAPPING", "RESOLVED"]
    assert len({alert_id for alert_id, _ in keys}) == 2


def test_300_alerts_by_a_webhook_that_fails_often(user: str, database: Database, setting: Set) -> None:
    """Nearly a third of the requests fails; each change is confirmed once, and those of a device in order."""
    del setting
    chance = random.Random(7)
    failing = [Answer(500), Answer(503), Answer(429, (("Retry-After", "0"),)), Answer(404)]

    def answer(_path: str, _number: int) -> Answer:
        return chance.choice(failing) if chance.random() < 0.3 else Answer()

    with http_receiver(answer) as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setattr(retries, "LEAST_ASKED_SECONDS", 0.01)
        add(database, user, "hook", "webhook", receiver.url())
        for device in range(10):
            flap(user, f"d{device}", 15)
        write_tables()
        assert deliveries(database, user) == {("hook", "waiting"): 300}
        deliver_until(none_waits(database, user), "the channel to be told")
    told = receiver.told()
    assert deliveries(database, user) == {("hook", "sent"): 300}
    assert len(receiver.calls) > 350
    assert len(told) == len({call.key for call in told}) == 300
    for device in range(10):
        own = [call.notice["status"] for call in told if call.notice["device_id"] == f"d{device}"]
        assert own == ["TRIGGERED", "RESOLVED"] * 15


def test_a_channel_that_hangs_fails_or_is_busy_holds_up_no_other(
    user: str, database: Database, setting: Set
) -> None:
    """The one that is well is told all at once; the busy one is left alone for as long as it asks."""
    setting(CHANNEL_TIMEOUT_SECONDS="5", CHANNEL_ATTEMPTS="2")

    def answer(path: str, _number: int) -> Answer:
        return {
            "/hangs": Answer(after_s=30),
            "/fails": Answer(500),
            "/busy": Answer(429, (("Retry-After", "3600"),)),
        }.get(path, Answer())

    with http_receiver(answer) as receiver:
        for name in ("hangs", "fails", "busy", "well"):
            add(database, user, name, "webhook", receiver.url(f"/{name}"))
        flap(user, "d", 10)
        write_tables()
        deliver_until(
            lambda: deliveries(database, user)["fails", "failed"] == 20, "the failing one to be given up"
        )
        told = receiver.told("/well")
        hanging = [call.at for call in receiver.calls if call.path == "/hangs"]
    assert len(told) == 20
    # Before the first attempt at the one that hangs was given up.
    assert told[-1].at < hanging[0] + 5
    assert len([call for call in receiver.calls if call.path == "/busy"]) == 1
    found = deliveries(database, user)
    assert found["busy", "waiting"] == 20
    assert found["hangs", "sent"] == 0
    found_reasons = database.execute(f"SELECT DISTINCT name, why {OF_USER}", [user])
    reasons = {(name, why) for name, why in found_reasons if why}
    assert {("busy", "the server answered 429"), ("fails", "the server answered 500")} <= reasons
    assert ("hangs", "no answer in time") in reasons


def test_a_worker_killed_between_sending_and_marking_loses_nothing(
    stack: Stack, user: str, database: Database, setting: Set
) -> None:
    """Another one sends the same again under the same key when the lease is over, and not before."""
    del setting
    with http_receiver() as receiver:
        add(database, user, "hook", "webhook", receiver.url())
        judge(user, "d", (1, 90.0))
        write_tables()
        deliver_and_die(stack)
        (first,) = receiver.calls
        deliver_channels.deliver()
        assert receiver.calls == [first]
        database.execute("UPDATE channel_states SET lease_until = now()")
        deliver_channels.deliver()
        assert [call.key for call in receiver.calls] == [first.key] * 2
    assert deliveries(database, user) == {("hook", "sent"): 1}


def test_a_channel_does_not_reach_the_operators_networks(user: str, database: Database, setting: Set) -> None:
    """Not by an address, by a name or by a redirect; the delivery says why, and what the operator can do."""

    def answer(_path: str, _number: int) -> Answer:
        return Answer(302, (("Location", receiver.url("/inside")),))

    with http_receiver(answer) as receiver:
        add(database, user, "moved", "webhook", receiver.url("/moved"))
        judge(user, "d", (1, 90.0))
        write_tables()
        deliver_channels.deliver()
        assert [call.path for call in receiver.calls] == ["/moved"]
        setting(CHANNEL_ALLOWED_NETWORKS="10.0.0.0/8")
        add(database, user, "address", "webhook", receiver.url())
        add(database, user, "name", "webhook", receiver.url().replace("127.0.0.1", "localhost"))
        judge(user, "d", (2, 20.0))
        write_tables()
        deliver_channels.deliver()
        assert len(receiver.calls) == 1
    assert deliveries(database, user) == {
        ("moved", "failed"): 2,
        ("address", "failed"): 1,
        ("name", "failed"): 1,
    }
    reasons = database.execute(f"SELECT why {OF_USER} AND name = 'name'", [user]).fetchall()
    assert "CHANNEL_ALLOWED_NETWORKS" in str(reasons)


def test_the_table_refuses_what_could_not_work(user: str, database: Database) -> None:
    """A wrong kind, target, status or field, and the twenty-first channel of a user."""
    for columns in (
        {"kind": "pager"},
        {"target": "file:///etc/passwd"},
        {"target": "https://a b"},
        {"statuses": ["OVER"]},
        {"template": "$secret"},
        {"template": "costs 5 $"},
        {"secret": "short"},
        {"name": "../x"},
    ):
        given: dict[str, Any] = {"name": "n", "kind": "webhook", "target": "https://example.com/", **columns}
        with pytest.raises(psycopg.errors.CheckViolation):
            add(database, user, **given)
    for number in range(20):
        add(database, user, f"c{number}", "webhook", "https://example.com/", template="${value} $values $$")
    with pytest.raises(psycopg.errors.CheckViolation, match="maximum"):
        add(database, user, "c20", "webhook", "https://example.com/")
    database.execute("UPDATE channels SET target = 'https://example.com/new' WHERE user_id = %s", [user])
    database.execute("UPDATE channels SET enabled = false, secret = %s WHERE user_id = %s", ["s" * 32, user])
    database.execute("DELETE FROM channels WHERE user_id = %s", [user])
    audit = database.execute(
        "SELECT action, before, after FROM operator_audit WHERE subject = 'channels' AND key = %s", [user]
    ).fetchall()
    assert Counter(action for action, *_ in audit) == {"INSERT": 20, "UPDATE": 40, "DELETE": 20}
    assert "example.com" not in str(audit)
    assert "s" * 32 not in str(audit)
    assert {after["target"] for action, _, after in audit if action == "UPDATE"} == {"new"}


def test_a_trial_counts_for_the_rate_of_its_user(user: str, database: Database, setting: Set) -> None:
    """As every message does: whoever may try a channel can flood nobody by it."""
    setting(CHANNEL_MESSAGES_PER_MINUTE="1")
    with http_receiver() as receiver:
        add(database, user, "hook", "webhook", receiver.url())
        # The burst, of a minute.
        assert [trial.tell(user, "hook") for _ in range(2)] == [Sent(), Sent()]
        with pytest.raises(trial.CannotTry, match="CHANNEL_MESSAGES_PER_MINUTE"):
            trial.tell(user, "hook")
        assert [call.notice["status"] for call in receiver.calls] == ["TEST", "TEST"]
    with pytest.raises(trial.CannotTry, match="no such channel"):
        trial.tell(user, "none")


@pytest.mark.parametrize("rules", [1, 300])
def test_what_waits_behind_a_failed_attempt_is_not_read_at_each_look(
    user: str, database: Database, setting: Set, rules: int
) -> None:
    """10,000 rows behind the first of their rule: what is next is found within a few pages for each rule."""
    del setting
    add(database, user, "hook", "webhook", "https://example.com/")
    database.execute(
        "INSERT INTO channel_deliveries (channel_id, alert_id, status, time, device_id, rule_id, next_at)"
        " SELECT id, 'a' || n, 'TRIGGERED', now(), 'd', 'r' || mod(n, %s),"
        " now() + CASE WHEN n < %s THEN interval '1 hour' ELSE '0' END"
        " FROM channels, generate_series(0, 9999) AS n WHERE user_id = %s",
        [rules, rules, user],
    )
    with access() as connection:
        assert tables.claim(connection, uuid4(), 1) == []
    # As autovacuum does within a minute: by statistics of an empty table all would be read.
    database.execute("ANALYZE channel_deliveries")
    assert pages_read(database) < 2000 + 20 * rules
    database.execute(
        "INSERT INTO channel_deliveries (channel_id, alert_id, status, time, device_id, rule_id)"
        " SELECT id, 'other', 'TRIGGERED', now(), 'd', 'other' FROM channels WHERE user_id = %s",
        [user],
    )
    with access() as connection:
        (claim,) = tables.claim(connection, uuid4(), 1)
    query = f"SELECT channel_deliveries.id {OF_USER} AND rule_id = 'other'"
    assert database.execute(query, [user]).fetchone() == (claim.delivery,)


def pages_read(database: Database) -> int:
    """How many pages one claim reads, from memory or from disk."""
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)"
    given = {"most": 1, "holder": uuid4(), "lease": 60, "gap": 0.1, "burst": 60}
    given |= {"near": turns.NEAR, "windows": "[]"}
    with database.transaction(force_rollback=True):
        row = database.execute(f"{explain} {tables.CLAIM}", given).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_who_has_the_lease_no_longer_marks_nothing(user: str, database: Database, setting: Set) -> None:
    """The attempt of the one who has it says how it ended, whoever is late."""
    del setting
    add(database, user, "hook", "webhook", "https://example.com/")
    judge(user, "d", (1, 90.0))
    write_tables()
    late, newer = uuid4(), uuid4()
    with access() as connection:
        (first,) = tables.claim(connection, late, 1)
        assert tables.claim(connection, newer, 1) == []
        database.execute("UPDATE channel_states SET lease_until = now()")
        (again,) = tables.claim(connection, newer, 1)
        assert (again.key, again.attempts) == (first.key, 2)
        assert tables.finish(connection, first, Never("late"), late) is None
        assert deliveries(database, user) == {("hook", "waiting"): 1}
        assert tables.finish(connection, again, Sent(), newer) == "sent"
    assert deliveries(database, user) == {("hook", "sent"): 1}


def test_the_operators_commands_and_the_worker_of_the_procfile(
    stack: Stack, user: str, database: Database, setting: Set
) -> None:
    """A channel is added, tried, told by the worker, looked at and removed; nothing shows where it leads."""
    del setting
    allowed = {name: os.environ[name] for name in ("CHANNEL_SCHEMES", "CHANNEL_ALLOWED_NETWORKS")}

    def run(*arguments: str, stdin: str = "") -> str:
        done = sluice(stack, "channels", *arguments, stdin=stdin, **allowed)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with http_receiver() as receiver:
        secret = run("add", user, "hook", "webhook", stdin=f"{receiver.url('/token')}\n").strip()
        assert len(secret) == 64
        run("test", user, "hook")
        assert receiver.calls[0].notice["status"] == "TEST"
        again = sluice(stack, "channels", "add", user, "hook", "webhook", receiver.url(), **allowed)
        assert (again.returncode, "has a channel hook" in again.stderr) == (1, True)
        closed = sluice(
            stack, "channels", "add", user, "other", "webhook", receiver.url(), CHANNEL_SCHEMES="https"
        )
        assert "CHANNEL_SCHEMES" in closed.stderr

        # Nobody consumes the queue: what is due shows, and few tasks wait.
        client().delete("notify", CHANNELS_QUEUED)
        for reading in range(4):
            judge(user, "d", (reading, 90.0 if reading % 2 == 0 else 20.0))
            write_tables()
            client().delete(CHANNELS_QUEUED)
        deliver_channels.watch()
        look = wake.seen()
        assert look is not None
        assert look.untaken is not None
        assert client().llen("notify") == 1
        with notify_worker(stack, **allowed):
            wait_until(lambda: len(receiver.calls) == 5, 60, "the worker to tell the channel")
            wait_until(none_waits(database, user), 10, "the deliveries to be noted")
            sent = pages.value(stack, "notify", "sluice_channel_attempts_total", outcome="sent")
            assert sent == 4
        deliver_channels.watch()
        look = wake.seen()
        assert look is not None
        assert look.untaken is None

    shown = run("list", "--user", user, "--json") + run("list") + run("log", user, "hook")
    assert "token" not in shown
    assert secret not in shown
    assert json.loads(run("list", "--user", user, "--json"))[0]["sent"] == 4
    database.execute("UPDATE channel_deliveries SET state = 'failed', why = 'of the test'")
    with pytest.MonkeyPatch.context() as patch:
        # No more than may wait, whatever has failed.
        patch.setattr(tables, "MOST_WAITING", 3)
        assert channels.retry(database, user, "hook") == 3
        assert channels.retry(database, user, "hook") == 0
    run("retry", user, "hook")
    assert deliveries(database, user) == {("hook", "waiting"): 4}
    database.execute("UPDATE channel_deliveries SET created_at = now() - interval '25 hours'")
    deliver_channels.tidy()
    assert deliveries(database, user) == {("hook", "failed"): 4}
    database.execute("UPDATE channel_deliveries SET done_at = now() - interval '31 days'")
    deliver_channels.tidy()
    assert deliveries(database, user) == {}
    run("remove", user, "hook")
    assert sluice(stack, "channels", "remove", user, "hook").returncode == 1


def test_a_users_rate_bounds_all_channels_of_the_user(user: str, database: Database, setting: Set) -> None:
    """No more than a minute's worth at once; another user's are told."""
    setting(CHANNEL_MESSAGES_PER_MINUTE="5")
    with http_receiver() as receiver:
        for name in ("one", "two"):
            add(database, user, name, "webhook", receiver.url())
        flap(user, "d", 10)
        write_tables()
        deliver_channels.deliver()
        deliver_channels.deliver()
        # The last look may give a turn to each channel.
        assert 5 <= len(receiver.calls) <= 6
