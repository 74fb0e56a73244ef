"""The main job: what devices publish becomes exactly one row or exactly one dead letter each."""

import base64
import json
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
from confluent_kafka import Consumer, TopicPartition

from compose.local.stack import Stack
from ingest.loadtest.fleet.payloads import BadMessages
from tests.conftest import DeadLetters
from tests.integration import fleet
from tests.integration.lag import wait_for_no_lag

USERS, DEVICES_PER_USER, READINGS, BAD_EVERY = 6, 10, 20_000, 50


def reading(chance: random.Random, sequence_id: int, taken: datetime) -> dict[str, Any]:
    """A reading that exercises what jsonb and the columns must hold exactly."""
    return {
        "sequence_id": sequence_id * chance.choice((1, -1)) + chance.choice((0, 2**62)),
        "time": taken.isoformat(),
        "temperature": chance.choice((None, 21, chance.uniform(-1e3, 1e3), 5e-324, 1.7976931348623157e308)),
        "battery": chance.choice((None, chance.randrange(101), 85.0, 2**31 - 1, -(2**31))),
        "name": chance.choice(("Kühlraum", "冷蔵庫", '🚚 \t\n\r\\ "x"', "\\u0000 spelt out", "")),
        "counter": chance.choice((2**63 - 1, -(2**63), 2**64 + 1, 10**40)),
        "nested": {"a": [1, 2.5, None, True, {"b": {"c": ["ß", {}]}}], "": {"é": []}},
    }


def row_of(payload: dict[str, Any]) -> tuple[Any, ...]:
    """The row that a payload must become, without the ids."""
    known = ("sequence_id", "time", "temperature", "battery")
    extra = {key: value for key, value in payload.items() if key not in known}
    temperature = payload["temperature"]
    return (
        datetime.fromisoformat(payload["time"]),
        payload["sequence_id"],
        None if temperature is None else float(temperature),
        payload["battery"],
        extra,
    )


def test_every_reading_becomes_one_row_or_one_dead_letter(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """20,000 readings of 60 devices, 2% of them bad in every way, are all there, equal, and there once."""
    run = uuid4().hex[:8]
    chance = random.Random(run)
    names = [(f"{run}-{u}", f"dev-{d}") for u in range(USERS) for d in range(DEVICES_PER_USER)]
    devices = fleet.devices(pipeline, names)
    spoil = BadMessages(max_bytes=262_144, max_depth=32)
    start = datetime.now(UTC) - timedelta(hours=1)
    good: dict[tuple[str, str], list[dict[str, Any]]] = {name: [] for name in names}
    bad: Counter[tuple[str, bytes]] = Counter()
    for number in range(READINGS):
        device = devices[number % len(devices)]
        payload = reading(chance, number, start + timedelta(milliseconds=number, microseconds=number))
        if number % BAD_EVERY == 0:
            # A member that no other message has, so that equal bytes mean the same message.
            _, spoilt = spoil.next(
                json.dumps({"sequence_id": number, "time": f"{start:%FT%T}Z", "rssi": -1}).encode()
            )
            bad[device.topic, spoilt] += 1
            device.publish(spoilt)
        else:
            good[device.user, device.device].append(payload)
            device.publish(json.dumps(payload, ensure_ascii=number % 2 == 0).encode())
    for device in devices:
        device.await_acknowledged(120)

    def stored() -> int:
        found = database.execute(
            "SELECT count(*) FROM raw_telemetry WHERE user_id LIKE %s", [f"{run}-%"]
        ).fetchone()
        assert found is not None
        return int(found[0])

    expected = sum(len(payloads) for payloads in good.values())
    fleet.wait_until(lambda: stored() >= expected, 120, "the rows")
    wait_for_no_lag(pipeline)
    assert stored() == expected
    for (user, name), payloads in good.items():
        rows = database.execute(
            "SELECT time, sequence_id, temperature, battery, extra_data FROM raw_telemetry"
            " WHERE user_id = %s AND device_id = %s ORDER BY time",
            [user, name],
        ).fetchall()
        assert rows == [row_of(payload) for payload in payloads]

    letters = [(key, letter) for key, letter in dead_letters.read() if run in letter["original_topic"]]
    found = Counter(
        (letter["original_topic"], base64.b64decode(letter["payload_base64"])) for _, letter in letters
    )
    assert found == bad
    assert len({key for key, _ in letters}) == len(letters)
    assert all(letter["error"] and letter["error_type"] and letter["attempts"] == 1 for _, letter in letters)
    fleet.disconnect(devices)


def test_a_reading_without_time_gets_the_time_of_its_kafka_record(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """A device without a clock is served, too: its rows carry the time of arrival."""
    run = uuid4().hex[:8]
    before = datetime.now(UTC) - timedelta(seconds=1)
    (device,) = fleet.devices(pipeline, [(run, "clockless")])
    device.publish(b'{"sequence_id": 1}')
    device.await_acknowledged()
    query = "SELECT time, temperature, extra_data FROM raw_telemetry WHERE user_id = %s"
    fleet.wait_until(lambda: bool(database.execute(query, [run]).fetchall()), 30, "the row")
    ((stored_time, temperature, extra),) = database.execute(query, [run]).fetchall()
    assert isinstance(stored_time, datetime)
    assert before <= stored_time <= datetime.now(UTC) + timedelta(seconds=1)
    assert (temperature, extra) == (None, {})
    fleet.disconnect([device])


def test_a_topic_that_names_no_device_becomes_a_dead_letter(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """The gateway's filter also matches empty levels; such a message is kept, byte for byte."""
    run = uuid4().hex[:8]
    (device,) = fleet.devices(pipeline, [(run, "any")])
    username = fleet_username(database, run)
    topic = f"users//devices/{run}/telemetry"
    database.execute(
        "INSERT INTO mqtt_acl (username, permission, action, topic) VALUES (%s, 'allow', 'publish', %s)",
        [username, topic],
    )
    payload = b"\x00\xffanything"
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        # Until the broker has read the new rule it drops what it does not allow.
        device.publish(payload, topic)
        device.await_acknowledged()
        time.sleep(0.5)
        found[:] = [letter for _, letter in dead_letters.read() if letter["original_topic"] == topic]
        return bool(found)

    fleet.wait_until(arrived, 30, "the dead letter")
    assert base64.b64decode(found[0]["payload_base64"]) == payload
    assert found[0]["error_type"] == "InvalidTopic"
    fleet.disconnect([device])


def test_a_payload_passes_the_gateway_untouched_with_its_trace(pipeline: Stack) -> None:
    """The Kafka record has the very bytes, the key `user/device`, and topic, time and trace as headers."""
    run = uuid4().hex[:8]
    consumer = Consumer({"bootstrap.servers": pipeline.env["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "tests"})
    partitions = consumer.list_topics("iot-stream", 10).topics["iot-stream"].partitions
    ends = [
        consumer.get_watermark_offsets(TopicPartition("iot-stream", number), 10)[1] for number in partitions
    ]
    consumer.assign(
        [TopicPartition("iot-stream", number, end) for number, end in zip(partitions, ends, strict=True)]
    )
    (device,) = fleet.devices(pipeline, [(run, "d")])
    payload = b"\x00\xff not json \r\n"
    traceparent = f"00-{uuid4().hex}-{uuid4().hex[:16]}-01"
    fleet.publish_traced(device, payload, traceparent)
    deadline = time.monotonic() + 60
    record = consumer.poll(20)
    # A straggler of another test may come first.
    while record is not None and run.encode() not in (record.key() or b"") and time.monotonic() < deadline:
        record = consumer.poll(20)
    consumer.close()
    assert record is not None
    assert record.error() is None
    headers = dict(record.headers() or [])
    assert (record.value(), record.key()) == (payload, f"{run}/d".encode())
    assert headers["mqtt_topic"] == device.topic.encode()
    assert headers["traceparent"] == traceparent.encode()
    received_at = headers["received_at"]
    assert isinstance(received_at, bytes)
    assert abs(datetime.fromisoformat(received_at.decode()) - datetime.now(UTC)) < timedelta(seconds=30)
    fleet.disconnect([device])


def test_no_user_property_stops_the_gateway(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Any text that the broker lets through arrives, also U+FEFF, at which paho ends the connection."""
    run = uuid4().hex[:8]
    (device,) = fleet.devices(pipeline, [(run, "d")])
    fleet.publish_traced(device, b'{"sequence_id": 1}', "\ufeff")
    query = "SELECT sequence_id FROM raw_telemetry WHERE user_id = %s"
    fleet.wait_until(lambda: database.execute(query, [run]).fetchall() == [(1,)], 30, "the row")
    fleet.disconnect([device])


def test_killing_worker_bridge_and_gateway_loses_and_doubles_nothing(
    pipeline: Stack, database: psycopg.Connection[tuple[Any, ...]], dead_letters: DeadLetters
) -> None:
    """SIGKILL of each in the middle of the load: every reading still ends as one row or one dead letter."""
    run = uuid4().hex[:8]
    devices = fleet.devices(pipeline, [(f"{run}-{u}", f"dev-{d}") for u in range(3) for d in range(10)])
    start = datetime.now(UTC)
    good: set[tuple[str, str, int]] = set()
    bad: set[tuple[str, bytes]] = set()
    kills = {2000: "worker", 4000: "bridge", 6000: "gateway"}
    for number in range(9000):
        device = devices[number % len(devices)]
        taken = (start + timedelta(milliseconds=number)).isoformat()
        if number % BAD_EVERY == 0:
            payload = json.dumps({"sequence_id": "bad", "number": number, "time": taken}).encode()
            bad.add((device.topic, payload))
        else:
            payload = json.dumps({"sequence_id": number, "time": taken, "temperature": 20.5}).encode()
            good.add((device.user, device.device, number))
        device.publish(payload)
        if name := kills.get(number):
            fleet.kill(pipeline.pid(name))
        if number % 100 == 0:
            time.sleep(0.05)
    for device in devices:
        device.await_acknowledged(120)

    def stored() -> list[tuple[Any, ...]]:
        return database.execute(
            "SELECT user_id, device_id, sequence_id FROM raw_telemetry WHERE user_id LIKE %s", [f"{run}-%"]
        ).fetchall()

    fleet.wait_until(lambda: len(stored()) >= len(good), 120, "the rows")
    wait_for_no_lag(pipeline)
    rows = stored()
    assert len(rows) == len(set(rows))
    assert set(rows) == good
    letters = [(key, letter) for key, letter in dead_letters.read() if run in letter["original_topic"]]
    by_key = {
        key: (letter["original_topic"], base64.b64decode(letter["payload_base64"])) for key, letter in letters
    }
    # A gateway that is killed between Kafka's confirmation and its PUBACK puts a message into Kafka twice:
    # two records, thus two keys, of equal bytes.
    assert set(by_key.values()) == bad
    fleet.disconnect(devices)


def fleet_username(database: psycopg.Connection[tuple[Any, ...]], user: str) -> str:
    """The MQTT user name of the one device of `user`."""
    found = database.execute("SELECT username FROM mqtt_users WHERE user_id = %s", [user]).fetchone()
    assert found is not None
    return str(found[0])
