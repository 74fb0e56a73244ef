"""A delivery ends as it was told, whatever happens at that moment, and never comes after a later one."""

import threading
from uuid import uuid4

import psycopg

from ingest.admin.alerting import channels
from tasks import deliver_channels
from tasks.channels import tables
from tasks.channels.claim import Claim
from tasks.channels.outcome import Sent
from tasks.servers.database import access
from tests.integration.changes import Database, flap, judge, write_tables
from tests.integration.fleet import wait_until
from tests.integration.receivers import Answer, http_receiver
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


def test_a_retry_does_not_tell_an_alert_backwards(user: str, database: Database, setting: Set) -> None:
    """The beginning of an alert is no longer sent once its end was; all others are, in order."""
    setting(CHANNEL_ATTEMPTS="1")
    failing = {0, 2, 3}

    def answer(_path: str, number: int) -> Answer:
        return Answer(400 if number in failing else 200)

    with http_receiver(answer) as receiver:
        add(database, user, "hook", "webhook", receiver.url())
        flap(user, "d", 2)
        write_tables()
        deliver_until(none_waits(database, user), "the channel to be told")
        assert deliveries(database, user) == {("hook", "failed"): 3, ("hook", "sent"): 1}
        assert channels.retry(database, user, "hook") == (2, 1)
        deliver_until(none_waits(database, user), "the channel to be told the rest")
        assert [call.notice["status"] for call in receiver.told()] == ["RESOLVED", "TRIGGERED", "RESOLVED"]
        assert channels.retry(database, user, "hook") == (0, 1)
    assert deliveries(database, user) == {("hook", "failed"): 1, ("hook", "sent"): 3}


def test_what_is_held_while_it_is_claimed_leases_no_channel(
    user: str, database: Database, setting: Set
) -> None:
    """A window that opens between a claim's look and its mark: the channel is free, nothing is counted."""
    del setting
    add(database, user, "hook", "webhook", "https://example.com/")
    judge(user, "d", (1, 90.0))
    write_tables()
    claimed: list[Claim] = []

    def claim() -> None:
        with access() as connection:
            claimed.extend(tables.claim(connection, uuid4(), 1))

    thread = threading.Thread(target=claim)
    with database.transaction():
        database.execute(
            "UPDATE channel_deliveries SET state = 'held', held_until = now() + interval '1 hour'"
            " WHERE channel_id IN (SELECT id FROM channels WHERE user_id = %s)",
            [user],
        )
        thread.start()
        with psycopg.connect(database.info.dsn, password=database.info.password) as looking:
            wait_until(
                lambda: bool(looking.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall()),
                30,
                "the claim to meet the held row",
            )
    thread.join()
    assert claimed == []
    leases = database.execute(
        "SELECT lease_until > now() FROM channel_states JOIN channels ON id = channel_id WHERE user_id = %s",
        [user],
    )
    assert leases.fetchall() == [(False,)]
    assert database.execute(f"SELECT sum(attempts) {OF_USER}", [user]).fetchall() == [(0,)]


def test_what_is_confirmed_as_its_patience_ends_was_sent(user: str, database: Database, setting: Set) -> None:
    """It was given up during its last attempt, which succeeded."""
    del setting
    add(database, user, "hook", "webhook", "https://example.com/")
    judge(user, "d", (1, 90.0))
    write_tables()
    holder = uuid4()
    with access() as connection:
        (one,) = tables.claim(connection, holder, 1)
        database.execute("UPDATE channel_deliveries SET created_at = now() - interval '25 hours'")
        deliver_channels.tidy()
        assert deliveries(database, user) == {("hook", "failed"): 1}
        assert tables.finish(connection, one, Sent(), holder) == "sent"
    assert deliveries(database, user) == {("hook", "sent"): 1}
