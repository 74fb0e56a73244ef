"""Mail by a real server that hangs, or refuses for ever: what becomes of it, and of the other channels."""

from tests.integration.changes import Database, flap, judge, write_tables
from tests.integration.receivers import http_receiver, mail_server
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


def _use(setting: Set, port: int) -> None:
    setting(
        SMTP_HOST="127.0.0.1",
        SMTP_PORT=str(port),
        SMTP_SECURITY="none",
        SMTP_FROM="a@b.example",
        CHANNEL_TIMEOUT_SECONDS="8",
    )


def test_a_mail_server_that_hangs_is_tried_again_and_holds_up_no_other_channel(
    user: str, database: Database, setting: Set
) -> None:
    """The webhook gets everything while the server hangs; when it answers, each mail comes once, in order."""
    with http_receiver() as receiver, mail_server() as mailbox:
        _use(setting, mailbox.port)
        mailbox.hangs = True
        add(database, user, "post", "mail", "ada@example.com")
        add(database, user, "hook", "webhook", receiver.url())
        flap(user, "d", 3)
        write_tables()
        deliver_until(lambda: bool(mailbox.hung), "the first mail to be given up")
        assert len(receiver.told()) == 6
        assert receiver.calls[-1].at < mailbox.hung[0]
        assert deliveries(database, user) == {("hook", "sent"): 6, ("post", "waiting"): 6}
        found = database.execute(f"SELECT attempts, why {OF_USER} AND attempts > 0 AND name = 'post'", [user])
        assert [why for _, why in found] == ["no answer in time"]
        mailbox.hangs = False
        deliver_until(none_waits(database, user), "the mails to be sent")
    assert deliveries(database, user) == {("hook", "sent"): 6, ("post", "sent"): 6}
    assert [mail["Idempotency-Key"] for mail in mailbox.mails] == [call.key for call in receiver.told()]


def test_a_mail_that_is_refused_for_ever_fails_at_once_with_the_reason(
    user: str, database: Database, setting: Set
) -> None:
    """Whether the server refuses the address or the mail; what comes next, and the other channel, is sent."""
    with http_receiver() as receiver, mail_server() as mailbox:
        _use(setting, mailbox.port)
        mailbox.unknown, mailbox.replies = {"nobody@example.com"}, ["550 not this one"]
        add(database, user, "post", "mail", "ada@example.com")
        add(database, user, "gone", "mail", "nobody@example.com", statuses=["TRIGGERED"])
        add(database, user, "hook", "webhook", receiver.url())
        judge(user, "d", (0, 90.0), (1, 20.0))
        write_tables()
        deliver_until(none_waits(database, user), "what is due to be tried")
        assert [call.notice["status"] for call in receiver.told()] == ["TRIGGERED", "RESOLVED"]
    found = database.execute(f"SELECT name, status, state, attempts, why {OF_USER}", [user]).fetchall()
    assert {row for row in found if row[0] != "hook"} == {
        ("gone", "TRIGGERED", "failed", 1, "the mail server refused the address (550)"),
        ("post", "TRIGGERED", "failed", 1, "the mail server refused the mail (550)"),
        ("post", "RESOLVED", "sent", 1, None),
    }
    assert [mail["Subject"] for mail in mailbox.mails] == ["[warning] RESOLVED d: hot"]
