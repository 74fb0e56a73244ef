"""Devices hear why their messages were refused: on the real broker, by their own accounts."""

import json
import os
import time
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from tasks.batch.messages import Message
from tasks.dead_letters import sender
from tasks.dead_letters.sender import DeadLetter
from tasks.settings import settings
from tasks.telemetry import DOMAIN
from tests.conftest import PROJECT
from tests.integration.device_table import register
from tests.integration.fleet import wait_until
from tests.integration.mqtt_session import await_honoured, session

Database = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def run() -> str:
    """A user that no other test has."""
    return f"u{uuid4().hex[:8]}"


def refuse(user: str, device: str, *, attempts: int = 0) -> None:
    """A message of the device becomes a dead letter."""
    now_ms = time.time_ns() // 1_000_000
    topic = f"users/{user}/devices/{device}/telemetry"
    message = Message(0, now_ms, now_ms, topic, "", attempts, b"{}")
    sender.send(DOMAIN, [DeadLetter(message, "MissingField", f"nothing of {device}")], {0: 0})
    sender.close()


def test_a_device_hears_of_its_own_refusals_alone_and_its_user_of_all(
    stack: Stack,
    in_process: None,  # noqa: ARG001
    database: Database,
    run: str,
) -> None:
    """Whatever else it subscribes to; a replayed message that is refused again has no notice."""
    fridge, percent, user = (
        await_honoured(stack, provision.provision(database, account))
        for account in (accounts.device(run, "fridge"), accounts.device(run, "50%"), accounts.user(run))
    )
    own, other = f"users/{run}/devices/fridge/rejected", f"users/{run}/devices/50%25/rejected"
    os.environ["REJECTED_NOTICES"] = "true"
    settings.cache_clear()
    with (
        session(stack, fridge) as one,
        session(stack, percent) as another,
        session(stack, user) as owner,
    ):
        for listening in (one, another):
            listening.subscribe("#", "users/+/devices/+/rejected", own, other)
        owner.subscribe(f"users/{run}/devices/+/rejected")
        refuse(run, "fridge", attempts=1)
        refuse(run, "fridge")
        refuse(run, "50%")

        def heard() -> bool:
            register()
            for listening in (one, another, owner):
                listening.listen()
            return len({topic for topic, _ in owner.received}) == 2

        wait_until(heard, 120, "the notices")
        for listening in (one, another, owner):
            listening.listen()
        reasons = {
            name: {(topic, json.loads(payload)["reason"]) for topic, payload in listening.received}
            for name, listening in {"fridge": one, "50%": another, "user": owner}.items()
        }
        assert reasons == {
            "fridge": {(own, "nothing of fridge")},
            "50%": {(other, "nothing of 50%")},
            "user": {(own, "nothing of fridge"), (other, "nothing of 50%")},
        }
        ours = [json.loads(payload) for topic, payload in owner.received if topic == own]
        assert len(ours) == 1
        assert (ours[0]["error_type"], ours[0]["kafka_topic"]) == ("MissingField", "iot-stream")
        assert not one.publish(own)


def test_without_the_setting_nothing_is_published(
    stack: Stack,
    in_process: None,  # noqa: ARG001
    database: Database,
    run: str,
) -> None:
    """It is off by default; the registry counts the letter all the same."""
    credential = await_honoured(stack, provision.provision(database, accounts.device(run, "d")))
    with session(stack, credential) as device:
        device.subscribe(f"users/{run}/devices/d/rejected")
        refuse(run, "d")

        def counted() -> bool:
            register()
            found = database.execute("SELECT FROM devices WHERE user_id = %s", [run]).fetchone()
            return found is not None

        wait_until(counted, 120, "the count")
        device.listen(1)
        assert device.received == []


def test_accounts_that_there_are_get_the_right_that_new_ones_have(
    stack: Stack,  # noqa: ARG001
    database: Database,
    run: str,
) -> None:
    """The migration, run a second time, and on accounts of each kind that lack it."""
    made = [
        accounts.device(run, "50%"),
        accounts.device(run, "aa:bb"),
        accounts.user(run),
        accounts.service(f"s{run}"),
    ]
    for account in made:
        provision.provision(database, account)
    names = [account.username for account in made]
    rights = "SELECT username, action, topic FROM mqtt_acl WHERE username = ANY(%s)"
    expected = {(account.username, *right) for account in made for right in accounts.acl(account)}
    migration = (PROJECT / "sql" / "0020_rejected_notices.sql").read_bytes()
    for _ in range(2):
        database.execute(
            "DELETE FROM mqtt_acl WHERE username = ANY(%s) AND topic LIKE '%%/rejected'", [names]
        )
        assert len(database.execute(rights, [names]).fetchall()) == len(expected) - len(made)
        database.execute(migration)
        database.execute(migration)
        assert set(database.execute(rights, [names]).fetchall()) == expected
