"""Topics that do not name their owner: the one account that may publish on them decides."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tests.conftest import DeadLetters
from tests.integration import fleet
from tests.integration.announced import announced
from tests.integration.commands import call
from tests.integration.deployment import serving, sluice
from tests.integration.lag import wait_for_no_lag
from tests.integration.pages import value
from tests.integration.user_program import User

Database = psycopg.Connection[tuple[Any, ...]]
ROWS = 'SELECT "user", device, temperature FROM raw_unowned WHERE device = ANY(%s) ORDER BY temperature'
READY = 60


@pytest.fixture(scope="module")
def deployment(stack: Stack) -> Iterator[Stack]:
    """The telemetry and the domain without owners."""
    with serving(stack, "tasks.telemetry", "tests.integration.unowned") as running:
        yield running


def publish(device: fleet.Device, temperature: float, **more: object) -> None:
    """A reading on the topic of the device's name, which the broker has when this returns."""
    payload = json.dumps({"temperature": temperature, **more}).encode()
    device.publish(payload, f"unowned/{device.device}/reading")
    device.await_acknowledged()


def wait_for_rows(database: Database, expected: list[tuple[str, str, float]]) -> None:
    """Returns when the table has exactly these rows of these devices."""
    names = list({device for _, device, _ in expected})
    fleet.wait_until(
        lambda: database.execute(ROWS, [names]).fetchall() == expected, READY, f"the rows of {names}"
    )


def test_each_account_publishes_for_its_user(deployment: Stack, database: Database) -> None:
    """New accounts at once, with the rights of `sluice provision`; alerts go to the owner."""
    ada, bob, cellar, attic = (f"{name}-{uuid4().hex[:8]}" for name in ("ada", "bob", "cellar", "attic"))
    rule = {"key": "temperature", "operator": ">", "threshold": 30, "message": "hot", "domain": "unowned"}
    with announced(deployment):
        database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::jsonb)", [ada, json.dumps([rule])]
        )
    devices = fleet.devices(deployment, [(ada, cellar), (bob, attic)])
    for number, device in enumerate(devices):
        publish(device, 31.0 + number)
    wait_for_rows(database, [(ada, cellar, 31.0), (bob, attic, 32.0)])
    opened = "SELECT user_id, device_id FROM active_alerts WHERE user_id = ANY(%s)"
    fleet.wait_until(
        lambda: database.execute(opened, [[ada, bob]]).fetchall() == [(ada, f"unowned/{cellar}")],
        READY,
        "the alert of the owner",
    )
    fleet.disconnect(devices)


def test_the_last_will_of_a_device_marks_it_as_offline(deployment: Stack, database: Database) -> None:
    """When its connection breaks the broker publishes it; the registry shows it, and no message is lost."""
    ada, cellar = f"ada-{uuid4().hex[:8]}", f"cellar-{uuid4().hex[:8]}"
    (device,) = fleet.devices(deployment, [(ada, cellar)])
    client, topic = device.client, f"unowned/{cellar}/status"
    fleet.disconnect([device])
    client.will_set(topic, "Offline", qos=1)
    client.reconnect()
    client.loop_start()
    fleet.wait_until(client.is_connected, 30, "the device to connect again")
    publish(device, 21.0)
    device.publish(b"Online", topic)
    device.await_acknowledged()
    state = "SELECT online FROM devices WHERE user_id = %s AND device_id = %s"
    who = [ada, f"unowned/{cellar}"]

    def is_online() -> object:
        call(deployment, "tasks.devices.register")  # as beat does
        found = database.execute(state, who).fetchone()
        return found and found[0]

    fleet.wait_until(lambda: is_online() is True, READY, "the device to be online")
    client.loop_stop()
    connection = client.socket()
    assert connection is not None
    connection.close()
    fleet.wait_until(lambda: is_online() is False, READY, "the last will")
    shown = sluice(deployment, "devices", "show", *who)
    assert "presence    offline since" in shown.stdout, shown.stderr
    listed = sluice(deployment, "devices", "list", "--user", ada, "--offline")
    assert "offline for" in listed.stdout, listed.stderr


def test_rules_are_compared_with_the_readings_of_their_own_domain(
    deployment: Stack, database: Database
) -> None:
    """For a user with devices in two domains: a rule that is right in one can never fire in the other."""
    ada = User(deployment, database)
    name = f"d-{uuid4().hex[:8]}"
    (device,) = fleet.devices(deployment, [(ada.id, name)])
    publish(device, 21.5, leak=True, power={"now": 7})
    device.publish(b'{"sequence_id": 1, "leak": 0}')
    device.await_acknowledged()
    wait_for_rows(database, [(ada.id, name, 21.5)])
    stored = "SELECT count(*) FROM raw_telemetry WHERE user_id = %s"
    fleet.wait_until(lambda: database.execute(stored, [ada.id]).fetchone() == (1,), READY, "the telemetry")
    given = [
        {"key": "leak", "operator": "==", "threshold": 1},
        {"key": "leak", "operator": "==", "threshold": 1, "domain": "unowned"},
        {"key": "power.now", "operator": ">", "threshold": 5},
        {"key": "power.now", "operator": ">", "threshold": 5, "domain": "unowned"},
        {"key": "temperature", "operator": ">", "threshold": 30, "domain": "unowned"},
    ]
    rules = [rule | {"id": f"r{number}", "message": "m"} for number, rule in enumerate(given)]
    answer = ada.ask("config", {"rules": rules})
    assert (answer["ok"], answer["rules"]) == (True, 5)
    assert [one["path"] for one in answer["warnings"]] == ["rules.1.threshold", "rules.2.key"]
    fleet.disconnect([device])
    ada.client.disconnect()
    ada.client.loop_stop()


def test_a_topic_of_two_accounts_is_nobodys_until_one_gives_it_up(
    deployment: Stack, database: Database
) -> None:
    """The letter names both; afterwards the readings are those of the account that is left."""
    ada, bob, shared = (f"{name}-{uuid4().hex[:8]}" for name in ("ada", "bob", "shared"))
    devices = fleet.devices(deployment, [(ada, shared), (bob, shared)])
    letters = DeadLetters(deployment.env["KAFKA_BOOTSTRAP_SERVERS"], "iot-stream-dlq-unowned")

    def refused() -> list[dict[str, Any]]:
        found = [letter for _, letter in letters.read()]
        return [one for one in found if one["original_topic"] == f"unowned/{shared}/reading"]

    publish(devices[0], 20.0)
    fleet.wait_until(lambda: bool(refused()), READY, "the dead letter")
    (letter,) = refused()
    assert letter["error_type"] == "UnknownOwner"
    assert f"2 accounts hold the topic ({ada}/{shared}, {bob}/{shared})" in letter["error"]
    assert json.loads(base64.b64decode(letter["payload_base64"])) == {"temperature": 20.0}
    database.execute(
        "DELETE FROM mqtt_acl WHERE username = %s AND topic LIKE 'unowned/%%'", [f"{ada}/{shared}"]
    )

    def is_bobs() -> bool:
        publish(devices[1], 21.0, time="2026-05-01T10:00:00Z")
        wait_for_no_lag(deployment, "iot-stream-unowned")
        return bool(database.execute(ROWS, [[shared]]).fetchall())

    fleet.wait_until(is_bobs, READY, "the other account to have the topic")
    wait_for_rows(database, [(bob, shared, 21.0)])
    letters.close()
    fleet.disconnect(devices)


def test_a_replay_keeps_the_owner_of_then(deployment: Stack, database: Database) -> None:
    """The topic has passed to another user meanwhile; what was sent before is still the first one's."""
    ada, bob, moved = (f"{name}-{uuid4().hex[:8]}" for name in ("ada", "bob", "moved"))
    (device,) = fleet.devices(deployment, [(ada, moved)])
    database.execute("ALTER TABLE raw_unowned ADD CONSTRAINT cold CHECK (temperature < 50)")
    try:
        publish(device, 1.0)
        publish(device, 60.0)
        wait_for_rows(database, [(ada, moved, 1.0)])
        wait_for_no_lag(deployment, "iot-stream-unowned")
    finally:
        database.execute("ALTER TABLE raw_unowned DROP CONSTRAINT cold")
    fleet.disconnect([device])
    database.execute("DELETE FROM mqtt_users WHERE username = %s", [f"{ada}/{moved}"])
    (device,) = fleet.devices(deployment, [(bob, moved)])
    publish(device, 2.0)
    wait_for_rows(database, [(ada, moved, 1.0), (bob, moved, 2.0)])
    replayed = sluice(deployment, "dlq", "replay", "--domain", "unowned", "--user", ada, "--json")
    assert replayed.returncode == 0, replayed.stderr
    wait_for_rows(database, [(ada, moved, 1.0), (bob, moved, 2.0), (ada, moved, 60.0)])
    fleet.disconnect([device])


def test_without_postgres_nothing_is_refused_and_nothing_is_lost(
    deployment: Stack, database: Database
) -> None:
    """The last list goes on to count; a gateway that has none yet takes messages and acknowledges none."""
    ada, cellar = (f"{name}-{uuid4().hex[:8]}" for name in ("ada", "cellar"))
    (device,) = fleet.devices(deployment, [(ada, cellar)])
    publish(device, 1.0)
    wait_for_rows(database, [(ada, cellar, 1.0)])
    letters = DeadLetters(deployment.env["KAFKA_BOOTSTRAP_SERVERS"], "iot-stream-dlq-unowned")
    database.close()
    deployment.stop("postgres")
    with ThreadPoolExecutor(1) as starter:
        try:
            publish(device, 2.0)
            fleet.wait_until(lambda: unacknowledged(deployment) == 0, READY, "Kafka to have the message")
            deployment.stop("gateway")
            publish(device, 3.0)
            started = starter.submit(deployment.start, "gateway")
            fleet.wait_until(
                lambda: unacknowledged(deployment) == 1, READY, "the gateway to hold the message"
            )
        finally:
            deployment.start("postgres")
        started.result()
    with psycopg.connect(deployment.env["DATABASE_DIRECT_URL"], autocommit=True) as again:
        wait_for_rows(again, [(ada, cellar, 1.0), (ada, cellar, 2.0), (ada, cellar, 3.0)])
    wait_for_no_lag(deployment, "iot-stream-unowned")
    assert letters.read() == []
    letters.close()
    fleet.disconnect([device])


def unacknowledged(deployment: Stack) -> float | None:
    """The messages that the gateway has taken and not acknowledged; None while it does not answer."""
    try:
        return value(deployment, "gateway", "sluice_gateway_unacknowledged_messages")
    except OSError:
        return None
