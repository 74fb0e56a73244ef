"""Channels: each change is sent by webhook and mail, under one key, whatever fails, hangs or dies."""

import hashlib
import hmac
import random
from uuid import uuid4

import pytest

from compose.local.stack import Stack
from tasks import deliver_channels
from tasks.channels import retries, tables
from tasks.channels.outcome import Never, Sent
from tasks.rules.parsing import parse_rules
from tasks.servers.database import access
from tests.integration.changes import Database, deliver_and_die, flap, judge, write_tables
from tests.integration.receivers import Answer, http_receiver, mail_server
from tests.integration.user_channels import (
    OF_USER,
    Set,
    add,
    deliver_until,
    deliveries,
    none_waits,
    setting,
    user,
)

__all__ = ["setting", "user"]


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
        # Existing changes are not sent again.
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
    """By a key of its own, and then its end; a channel sends it unless it has statuses of its own."""
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
    """The healthy channel gets everything at once; the busy one is left alone for as long as it asks."""
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
