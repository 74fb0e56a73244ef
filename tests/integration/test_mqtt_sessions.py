"""Sluice's sessions in the MQTT broker: nobody takes them, and what is retained is not a reading again."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.admin.accounts.provision import Credential, provision_devices
from tasks.registry import default
from tasks.servers import mqtt
from tasks.servers.redis_client import SESSIONS, client
from tasks.settings import settings
from tests.conftest import DeadLetters
from tests.integration import fleet, pages
from tests.integration.announced import announced
from tests.integration.changes import history
from tests.integration.mqtt_session import connect, had_session, leave
from tests.integration.subscriber import subscriber

Database = psycopg.Connection[tuple[Any, ...]]

OLD = "sluice-gateway"


def rows(database: Database, user: str) -> list[int]:
    """The sequence ids of a user's rows."""
    found = database.execute(
        "SELECT sequence_id FROM raw_telemetry WHERE user_id = %s ORDER BY sequence_id", [user]
    )
    return [row[0] for row in found]


def reading(number: int, temperature: float = 20.0) -> bytes:
    """A reading whose time is its own, so that a second copy of it is known."""
    now = datetime.now(UTC).isoformat()
    return json.dumps({"sequence_id": number, "time": now, "temperature": temperature}).encode()


@contextmanager
def intruder(stack: Stack, credential: Credential, *client_ids: str) -> Iterator[Callable[[], int]]:
    """A device that connects with other clients' ids again and again; gives the number of its connections."""
    made = 0
    stopping = threading.Event()

    def intrude() -> None:
        nonlocal made
        while not stopping.is_set():
            client = connect(stack, credential, client_ids[made % len(client_ids)], clean=bool(made // 2 % 2))
            stopping.wait(0.02)
            leave(client)
            made += 1

    thread = threading.Thread(target=intrude)
    thread.start()
    try:
        yield lambda: made
    finally:
        stopping.set()
        thread.join()


def gateways_id() -> str:
    """The client id of the gateway, which only Sluice can know."""
    return mqtt.session_id(settings(), settings().mqtt_client_id)


def service(stack: Stack) -> Credential:
    """Sluice's own account."""
    return Credential(stack.env["MQTT_USERNAME"], stack.env["MQTT_PASSWORD"])


@pytest.mark.usefixtures("on_servers")
def test_a_device_with_the_gateways_client_id_takes_nothing(pipeline: Stack, database: Database) -> None:
    """With clean start and without, while the gateway runs and while it is away: every reading is a row."""
    user = uuid4().hex[:8]
    [device] = fleet.devices(pipeline, [(user, "honest")])
    [thief] = provision_devices(database, [(f"{user}-other", "thief")])
    try:
        with intruder(pipeline, thief, OLD, gateways_id()) as connections:
            for number in range(700):
                device.publish(reading(number))
                if number % 100 == 99:
                    device.await_acknowledged()
            pipeline.stop("gateway")
            before = connections()
            for number in range(700, 1000):
                device.publish(reading(number))
            device.await_acknowledged()
            fleet.wait_until(lambda: connections() >= before + 5, 60, "the intruder")
            pipeline.start("gateway")
            fleet.wait_until(lambda: len(rows(database, user)) >= 1000, 60, "the rows")
        assert rows(database, user) == list(range(1000))
    finally:
        pipeline.up(["gateway"], prepare=False)
        fleet.disconnect([device])


@pytest.mark.usefixtures("on_servers")
def test_an_upgrade_empties_the_old_session_and_a_lost_one_is_told(
    pipeline: Stack, database: Database
) -> None:
    """Messages under the old client id become rows, once each; then that session is gone."""
    user = uuid4().hex[:8]
    [device] = fleet.devices(pipeline, [(user, "d")])
    try:
        pipeline.stop("gateway")
        # A test before may have taken the memory of Redis, and with it the note of the session.
        client().delete(SESSIONS)
        pipeline.start("gateway")
        fleet.wait_until(lambda: client().hlen(SESSIONS) == 1, 30, "the note of the gateway's session")
        pipeline.stop("gateway")
        leave(connect(pipeline, service(pipeline), gateways_id(), clean=True))
        old = connect(pipeline, service(pipeline), OLD, clean=False, keep=True)
        old.subscribe(default().filter, qos=1)
        time.sleep(0.5)
        leave(old)
        for number in range(300):
            device.publish(reading(number))
        device.await_acknowledged()
        pipeline.start("gateway")
        fleet.wait_until(lambda: len(rows(database, user)) >= 300, 60, "the rows")
        fleet.wait_until(
            lambda: "old_session_emptied" in pipeline.log("gateway"), 60, "the end of the old session"
        )
        device.publish(reading(300))
        fleet.wait_until(lambda: len(rows(database, user)) >= 301, 60, "the next row")
        assert rows(database, user) == list(range(301))
        again = connect(pipeline, service(pipeline), OLD, clean=False)
        leave(again)
        assert not had_session(again)
        lost = "sluice_mqtt_sessions_lost_total"
        fleet.wait_until(lambda: pages.value(pipeline, "gateway", lost) == 1, 30, "the alarm")
    finally:
        pipeline.up(["gateway"], prepare=False)
        fleet.disconnect([device])


@pytest.mark.usefixtures("on_servers")
def test_an_upgrade_answers_what_waits_for_the_control_process(pipeline: Stack) -> None:
    """Rules that wait under the old client id are answered."""
    user, now = uuid4().hex[:8], settings().mqtt_control_client_id
    with subscriber(pipeline, user) as program:
        try:
            pipeline.stop("control")
            leave(connect(pipeline, service(pipeline), mqtt.session_id(settings(), now), clean=True))
            old = connect(pipeline, service(pipeline), now, clean=False, keep=True)
            old.subscribe("users/+/config", qos=1)
            time.sleep(0.5)
            leave(old)
            program.publish("config", {"rules": []})
            pipeline.start("control")
            fleet.wait_until(lambda: len(program.answers) == 1, 60, "the answer")
            assert program.answers[0][1]["ok"]
            assert program.ask("config", {"rules": []})["ok"]
        finally:
            pipeline.up(["control"], prepare=False)


def test_a_retained_reading_is_one_reading(
    pipeline: Stack, database: Database, dead_letters: DeadLetters
) -> None:
    """A live message with the flag is a row; the broker's copy is none, and clearing it leaves no letter."""
    user = uuid4().hex[:8]
    rule = [{"key": "temperature", "operator": ">", "threshold": 8, "message": "warm"}]
    with announced(pipeline):
        database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)", [user, json.dumps(rule)]
        )
    [device] = fleet.devices(pipeline, [(user, "d")])

    def publish(payload: bytes, *, retain: bool) -> None:
        device.client.publish(device.topic, payload, qos=1, retain=retain).wait_for_publish(30)

    def changes() -> list[str]:
        return [status for _, status in history(database, user)]

    try:
        publish(b'{"sequence_id": 1, "temperature": 9.5}', retain=True)
        publish(b'{"sequence_id": 2, "temperature": 4.5}', retain=False)
        fleet.wait_until(lambda: changes() == ["TRIGGERED", "RESOLVED"], 60, "both changes")
        pipeline.restart("gateway")
        publish(b'{"sequence_id": 3, "temperature": 4.5}', retain=False)
        fleet.wait_until(lambda: 3 in rows(database, user), 60, "the row after the restart")
        publish(b"", retain=True)
        publish(b"", retain=False)
        publish(b'{"sequence_id": 4, "temperature": 4.5}', retain=False)
        fleet.wait_until(lambda: 4 in rows(database, user), 60, "the last row")
        assert rows(database, user) == [1, 2, 3, 4]
        assert changes() == ["TRIGGERED", "RESOLVED"]
        letters = [letter for _, letter in dead_letters.read() if letter["original_topic"] == device.topic]
        assert [letter["error_type"] for letter in letters] == ["InvalidJson"]
    finally:
        fleet.disconnect([device])
