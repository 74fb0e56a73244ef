"""A channel must not: reach the operator's networks, be set wrongly, flood, slow down the others."""

import time
from collections import Counter
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.admin.alerting import channels
from tasks import deliver_channels
from tasks.channels import tables, trial, turns
from tasks.channels.outcome import Later, Sent
from tasks.servers.database import access
from tests.integration.changes import Database, flap, judge, write_tables
from tests.integration.receivers import Answer, http_receiver
from tests.integration.user_channels import OF_USER, Set, add, deliveries, setting, user

__all__ = ["setting", "user"]


def test_a_channel_does_not_reach_the_operators_networks(user: str, database: Database, setting: Set) -> None:
    """Not by an address, by a name or by a redirect; the delivery says why, and what the operator can do."""

    def answer(_path: str, _number: int) -> Answer:
        return Answer(301, (("Location", receiver.url("/inside")),))

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
        # DNS may say another address tomorrow.
        ("name", "waiting"): 1,
    }
    reasons = database.execute(f"SELECT why {OF_USER} AND name = 'name'", [user]).fetchall()
    assert "CHANNEL_ALLOWED_NETWORKS" in str(reasons)
    assert "127." not in str(reasons)


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


def test_the_log_of_the_server_has_no_secret_of_a_refused_channel(
    stack: Stack, user: str, database: Database
) -> None:
    """Whatever breaks which constraint, at an INSERT or an UPDATE; so has no error that a client gets."""
    log = stack.layout.log("postgres")
    began, target = log.stat().st_size, f"https://example.com/{uuid4().hex}"
    wrong: tuple[dict[str, Any], ...] = (
        {"kind": "pager"},
        {"kind": None},
        {"target": f"{target} "},
        {"target": f"{target}\a"},
        {"statuses": ["OVER"]},
        {"severities": []},
        {"template": "$secret"},
        {"secret": target[:15]},
        {"name": "../x"},
        {"user_id": ""},
        {"enabled": None},
    )
    add(database, user, "n", "webhook", target)
    for columns in wrong:
        given: dict[str, Any] = {"user_id": user, "name": "m", "kind": "webhook", "target": target, **columns}
        (column,) = columns
        names, places = ", ".join(given), ", ".join(["%s"] * len(given))
        for statement, values in (
            (f"INSERT INTO channels ({names}) VALUES ({places})", list(given.values())),
            (f"UPDATE channels SET {column} = %s WHERE user_id = %s", [columns[column], user]),
        ):
            with pytest.raises(psycopg.errors.IntegrityError) as caught:
                database.execute(statement, values)
            assert caught.value.diag.table_name == "channels"
            assert caught.value.diag.message_detail is None
    said = log.read_bytes()[began:].decode()
    assert "the channel breaks the constraint channels_target_of_kind" in said
    assert target[:30] not in said


def test_a_channel_with_a_long_history_is_shown_without_reading_its_rows(
    user: str, database: Database
) -> None:
    """Not one of 100,000 deliveries but the last ones; the index has how many there are of each state."""
    add(database, user, "hook", "webhook", "https://example.com/")
    database.execute(
        "INSERT INTO channel_deliveries (channel_id, alert_id, status, time, device_id, rule_id, created_at,"
        " done_at, state, why)"
        " SELECT id, gen_random_uuid(), 'TRIGGERED', now(), 'd', 'r', now(),"
        " now() - (100001 - n) * interval '1 second',"
        " CASE WHEN mod(n, 100) = 0 THEN 'failed' ELSE 'sent' END,"
        " CASE WHEN mod(n, 100) = 0 THEN 'the server answered ' || n END"
        " FROM channels CROSS JOIN generate_series(1, 100000) AS n WHERE user_id = %s",
        [user],
    )
    database.execute("VACUUM ANALYZE channel_deliveries")
    (row,) = channels.listed(database, user)
    assert (row["sent"], row["failed"], row["waiting"]) == (99_000, 1_000, 0)
    assert row["why"] == "the server answered 100000"
    newest = database.execute(f"SELECT max(done_at) {OF_USER} AND state = 'sent'", [user]).fetchone()
    assert newest == (row["sent_at"],)
    ((size,),) = database.execute("SELECT pg_relation_size('channel_deliveries') / 8192").fetchall()
    ((plan,),) = database.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {channels._LIST}",
        [user, user],
    ).fetchall()
    read = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
    assert read < size / 2, (read, size, plan[0]["Execution Time"])


def test_a_trial_counts_for_the_rate_of_its_user(user: str, database: Database, setting: Set) -> None:
    """As every message does: whoever may try a channel can flood nobody by it."""
    setting(CHANNEL_MESSAGES_PER_MINUTE="1")
    with http_receiver() as receiver:
        add(database, user, "hook", "webhook", receiver.url())
        assert trial.tell(user, "hook") == Sent()
        with pytest.raises(trial.CannotTry, match="CHANNEL_MESSAGES_PER_MINUTE"):
            trial.tell(user, "hook")
        assert [call.notice["status"] for call in receiver.calls] == ["TEST"]
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


def test_a_pause_that_the_server_asks_for_is_not_a_failure(
    user: str, database: Database, setting: Set
) -> None:
    """Neither of the delivery, whose attempt is given back, nor of the channel, which failed once before."""
    del setting
    add(database, user, "hook", "webhook", "https://example.com/")
    judge(user, "d", (1, 90.0))
    write_tables()
    counted = (
        "SELECT d.attempts, s.failures FROM channel_deliveries AS d"
        " JOIN channel_states AS s USING (channel_id) JOIN channels AS c ON c.id = s.channel_id"
        " WHERE c.user_id = %s"
    )
    seen = []
    for outcome in (Later("the server answered 500"), Later("the server answered 429", 3600.0)):
        with access() as connection:
            holder = uuid4()
            (claim,) = tables.claim(connection, holder, 1)
            assert tables.finish(connection, claim, outcome, holder) == "waiting"
        seen.append(database.execute(counted, [user]).fetchone())
        database.execute("UPDATE channel_deliveries SET next_at = now() WHERE id = %s", [claim.delivery])
    assert seen == [(1, 1), (1, 1)]


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


def test_a_users_rate_bounds_all_channels_of_the_user(user: str, database: Database, setting: Set) -> None:
    """No more than a minute's worth at once, then as the minutes pass; another user's are sent."""
    setting(CHANNEL_MESSAGES_PER_MINUTE="5")
    other = f"{user}-2"
    with http_receiver() as receiver, http_receiver() as receiver_of_other:
        add(database, other, "one", "webhook", receiver_of_other.url())
        flap(other, "d", 1)
        for name in ("one", "two"):
            add(database, user, name, "webhook", receiver.url())
        flap(user, "d", 10)
        write_tables()
        began = time.monotonic()
        deliver_channels.deliver()
        deliver_channels.deliver()
        # A look may take one of each channel more, and one is paid every 12 s.
        assert 5 <= len(receiver.calls) <= 6 + (time.monotonic() - began) / 12
        assert len(receiver_of_other.calls) == 2
    database.execute("DELETE FROM channels WHERE user_id = %s", [other])
