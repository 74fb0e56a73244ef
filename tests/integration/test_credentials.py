"""Credentials on the real broker: who gets in, who may do what, and when a change takes effect."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, passwords, provision
from ingest.admin.accounts.provision import UnknownUsername, UsernameTaken
from tests.integration.fleet import wait_until
from tests.integration.mqtt_session import EFFECTIVE_SECONDS, await_honoured, let_in, session

Database = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def run() -> str:
    """A prefix that no other test uses."""
    return uuid4().hex[:8]


def test_nobody_gets_in_without_the_right_password(stack: Stack, database: Database, run: str) -> None:
    """Anonymous clients, unknown names and wrong passwords are turned away; the right one gets in."""
    right = await_honoured(stack, provision.provision(database, accounts.device(run, "d1")))
    assert not let_in(stack, None)
    assert not let_in(stack, right._replace(password="x" * 43))
    assert not let_in(stack, right._replace(username=f"{run}/d2"))
    assert not let_in(stack, right._replace(password=""))


@pytest.mark.parametrize("device_id", ["d1", "aa:bb:cc:dd", "two words", "100%", "Kühlraum 冷蔵庫"])
def test_a_device_publishes_its_own_telemetry_and_nothing_else(
    stack: Stack, database: Database, run: str, device_id: str
) -> None:
    """Whatever its id looks like, a device's own topic is granted and every other refused."""
    credential = await_honoured(stack, provision.provision(database, accounts.device(run, device_id)))
    own = f"users/{run}/devices/{device_id}/telemetry"
    with session(stack, credential) as device:
        assert device.publish(own)
    for other in (
        f"users/{run}/devices/other/telemetry",
        f"users/other/devices/{device_id}/telemetry",
        f"users/{run}/devices/{device_id}/alerts",
        f"users/{run}/config",
        f"users/{run}/alerts",
        "anything",
    ):
        # a connection each, for a broker may end one that does what it may not
        with session(stack, credential) as device:
            assert not device.publish(other), other


def test_a_device_hears_nobody_not_even_itself(stack: Stack, database: Database, run: str) -> None:
    """A device that subscribes to everything receives nothing of what a service receives."""
    d1, d2, service = (
        await_honoured(stack, provision.provision(database, account))
        for account in (accounts.device(run, "d1"), accounts.device(run, "d2"), accounts.service(run))
    )
    topic = f"users/{run}/devices/d1/telemetry"
    with session(stack, d1) as speaker, session(stack, d2) as spy, session(stack, service) as listener:
        for listening in (speaker, spy, listener):
            listening.subscribe("#", "users/+/devices/+/telemetry", topic)
        assert speaker.publish(topic, b"17")
        listener.pump(lambda: (topic, b"17") in listener.received)
        speaker.listen()
        spy.listen()
        assert speaker.received == spy.received == []


def test_a_service_receives_telemetry_by_a_shared_subscription(
    stack: Stack, database: Database, run: str
) -> None:
    """A shared subscription of a service gets each message once."""
    device, service = (
        await_honoured(stack, provision.provision(database, account))
        for account in (accounts.device(run, "d1"), accounts.service(run))
    )
    topic = f"users/{run}/devices/d1/telemetry"
    with session(stack, device) as speaker, session(stack, service) as listener:
        listener.subscribe(f"$share/{run}/users/+/devices/+/telemetry")
        for number in range(20):
            assert speaker.publish(topic, b"%d" % number)
        ours = [b"%d" % number for number in range(20)]
        listener.pump(lambda: [body for name, body in listener.received if name == topic] == ours)


def test_users_and_service_talk_but_users_do_not_hear_each_other(
    stack: Stack, database: Database, run: str
) -> None:
    """An alert reaches the user whom it is for and no other; rules go to the service only."""
    alice, bob, service = (
        await_honoured(stack, provision.provision(database, account))
        for account in (
            accounts.user(f"{run}-alice"),
            accounts.user(f"{run}-bob"),
            accounts.service(run),
        )
    )
    with session(stack, alice) as a, session(stack, bob) as b, session(stack, service) as s:
        for listening in (a, b, s):
            listening.subscribe("users/+/alerts", f"users/{run}-alice/alerts", "users/+/config")
        assert s.publish(f"users/{run}-alice/alerts", b"hot")
        a.pump(lambda: (f"users/{run}-alice/alerts", b"hot") in a.received)
        assert a.publish(f"users/{run}-alice/config", b"rules")
        s.pump(lambda: (f"users/{run}-alice/config", b"rules") in s.received)
        assert not b.publish(f"users/{run}-alice/config", b"rules")
        assert not a.publish(f"users/{run}-alice/alerts", b"made up")
        b.listen()
        assert b.received == []


def test_rotation_ends_the_old_password(stack: Stack, database: Database, run: str) -> None:
    """Provisioning again makes a new password; the old one stops working, for connections too."""
    account = accounts.device(run, "d1")
    old = await_honoured(stack, provision.provision(database, account))
    with session(stack, old) as connected:
        new = provision.provision(database, account)
        assert new.username == old.username
        assert new.password != old.password
        await_honoured(stack, new)
        connected.pump(lambda: connected.ended, EFFECTIVE_SECONDS)
    assert not let_in(stack, old)


def test_the_same_password_again_changes_nothing(stack: Stack, database: Database, run: str) -> None:
    """The broker's files stay the same, so that it does not have to check everybody again."""
    account, password = accounts.service(run), passwords.generate_password()
    credential = await_honoured(stack, provision.provision(database, account, password))
    query = "SELECT password_hash, salt, rotated_at FROM mqtt_users WHERE username = %s"
    before = database.execute(query, [credential.username]).fetchone()
    assert provision.provision(database, account, password) == credential
    assert database.execute(query, [credential.username]).fetchone() == before
    assert provision.provision(database, account, password[::-1]) != credential
    assert database.execute(query, [credential.username]).fetchone() != before


def test_removal_ends_the_account_and_its_connection(stack: Stack, database: Database, run: str) -> None:
    """A removed account is turned away, its connection is ended, and no right of it is left."""
    credential = await_honoured(stack, provision.provision(database, accounts.device(run, "d1")))
    with session(stack, credential) as connected:
        provision.remove(database, credential.username)
        connected.pump(lambda: connected.ended, EFFECTIVE_SECONDS)
    assert not let_in(stack, credential)
    left = database.execute("SELECT FROM mqtt_acl WHERE username = %s", [credential.username]).fetchall()
    assert left == []
    with pytest.raises(UnknownUsername):
        provision.remove(database, credential.username)


def test_disabling_by_sql_takes_effect(stack: Stack, database: Database, run: str) -> None:
    """`UPDATE mqtt_users SET enabled = false` shuts an account out, and the reverse lets it in again."""
    credential = await_honoured(stack, provision.provision(database, accounts.device(run, "d1")))
    switch = "UPDATE mqtt_users SET enabled = %s WHERE username = %s"
    database.execute(switch, [False, credential.username])
    wait_until(lambda: not let_in(stack, credential), EFFECTIVE_SECONDS, "the account to be shut out")
    database.execute(switch, [True, credential.username])
    await_honoured(stack, credential)


def test_a_restarted_broker_knows_the_latest_accounts(stack: Stack, database: Database, run: str) -> None:
    """An account that is made while the broker is away is known when it comes back."""
    stack.stop("mosquitto")
    credential = provision.provision(database, accounts.device(run, "d1"))
    stack.start("mosquitto")
    await_honoured(stack, credential)


def test_accounts_made_while_nobody_listens_are_found(stack: Stack, database: Database, run: str) -> None:
    """Changes made while the writer of Mosquitto's files was away are written when it is back."""
    stack.stop("mosquitto-auth")
    credential = provision.provision(database, accounts.device(run, "d1"))
    assert not let_in(stack, credential)
    stack.start("mosquitto-auth")
    await_honoured(stack, credential)


def test_a_change_that_nobody_announces_is_found(stack: Stack, database: Database, run: str) -> None:
    """Without the notification a change is found all the same, only some seconds later."""
    database.execute("ALTER TABLE mqtt_users DISABLE TRIGGER sluice_notify")
    database.execute("ALTER TABLE mqtt_acl DISABLE TRIGGER sluice_notify")
    try:
        credential = provision.provision(database, accounts.device(run, "d1"))
        wait_until(lambda: let_in(stack, credential), 60, "the unannounced account to be let in")
    finally:
        database.execute("ALTER TABLE mqtt_users ENABLE TRIGGER sluice_notify")
        database.execute("ALTER TABLE mqtt_acl ENABLE TRIGGER sluice_notify")


def test_accounts_follow_after_the_database_was_away(stack: Stack, run: str) -> None:
    """The writer of Mosquitto's files survives a restart of the database, and announcements work again."""
    stack.restart("postgres")
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        first = provision.provision(connection, accounts.device(run, "d1"))
        wait_until(lambda: let_in(stack, first), 60, "the first account to be let in")
        await_honoured(stack, provision.provision(connection, accounts.device(run, "d2")))


def test_thousands_of_devices_are_provisioned_together(stack: Stack, database: Database, run: str) -> None:
    """2,000 devices keep their order, and the broker knows the last of them soon."""
    names = [(f"{run}-{number // 100}", f"d{number % 100}") for number in range(2000)]
    made = provision.provision_devices(database, [*names, names[0]])
    assert [c.username for c in made] == [f"{user}/{device}" for user, device in [*names, names[0]]]
    assert made[0] == made[-1]
    await_honoured(stack, made[-2])
    assert let_in(stack, made[0])
    database.execute("DELETE FROM mqtt_users WHERE username = ANY(%s)", [[c.username for c in made]])


def test_a_name_of_another_kind_is_not_taken_over(stack: Stack, database: Database, run: str) -> None:
    """A user cannot be given the name of a service, and the service keeps its password."""
    service = await_honoured(stack, provision.provision(database, accounts.service(run)))
    with pytest.raises(UsernameTaken, match=run):
        provision.provision(database, accounts.user(run))
    assert let_in(stack, service)
