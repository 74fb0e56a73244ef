"""The web process, and a tenant with something of everything that it shows."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg.types.json import Jsonb

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision, tokens
from tasks.dead_letters import envelope
from tests.integration import web_process
from tests.integration.web_process import Web

Database = psycopg.Connection[tuple[Any, ...]]

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def role(stack: Stack) -> Iterator[str]:
    """The URL of the process's role in the database."""
    with web_process.role(stack) as url:
        yield url


@pytest.fixture(scope="module")
def web(stack: Stack, role: str) -> Iterator[Web]:
    """The process, with no more rights than its role has, and little patience.

    It also knows the owner's URL, as it does where all processes share their settings.
    """
    with web_process.running(
        stack,
        DATABASE_URL=role,
        WEB_STATEMENT_TIMEOUT_SECONDS="2",
        WEB_REQUESTS_PER_SECOND="1000",
        WEB_TRUSTED_PROXIES="127.0.0.1",
        CHANNEL_ALLOWED_NETWORKS="127.0.0.0/8",
        CHANNEL_SCHEMES="http,https,mailto,slack",
    ) as process:
        yield process


@pytest.fixture
def user(database: Database) -> str:
    """A user that no other test has: two devices, an alert, its history, rules, an account and a channel."""
    name = f"u{uuid4().hex[:8]}"
    for number, device in enumerate(("d", "quiet")):
        seen = NOW - timedelta(hours=number)
        database.execute(
            "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen, own_time)"
            " VALUES (%s, %s, 'telemetry', %s, %s, %s)",
            [name, device, seen, seen, NOW],
        )
    database.execute("INSERT INTO device_days VALUES (%s, 'd', '2026-03-02', 4, 1)", [name])
    for minute, temperature in enumerate((20.0, 22.0, 30.0, None)):
        database.execute(
            "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature, extra_data)"
            " VALUES (%s, %s, 'd', %s, %s, %s)",
            [
                NOW + timedelta(minutes=30 * minute),
                name,
                minute,
                temperature,
                Jsonb({"a": {"b": minute}}),
            ],
        )
    for table, more in (("active_alerts", ""), ("alert_history", ", time")):
        values = ", now()" if more else ""
        # An alert of the rule below: a worker that reads the rules would end an alert of another one.
        database.execute(
            f"INSERT INTO {table} (alert_id, status, user_id, device_id, rule_id, severity, message, count,"
            f" key, operator, threshold{more}) VALUES"
            f" (%s, 'TRIGGERED', %s, 'd', 'hot', 'warning', 'Too hot', 2, 'temperature', '>', '40'{values})",
            [f"a-{name}", name],
        )
    database.execute(
        "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)",
        [
            name,
            json.dumps(
                [{"id": "hot", "key": "temperature", "operator": ">", "threshold": 40, "message": "hot"}]
            ),
        ],
    )
    provision.provision(database, accounts.device(name, "d"))
    database.execute(
        "INSERT INTO channels (user_id, name, kind, target, enabled)"
        " VALUES (%s, 'hook', 'webhook', 'https://a:b@example.com:8443/secret?token', false)",
        [name],
    )
    return name


def dead_letter(stack: Stack, user: str, payload: bytes) -> str:
    """Puts a dead letter of a message that never reached Kafka, of the user's device `d`; returns its key."""
    topic = f"users/{user}/devices/d/telemetry"
    key = envelope.key_without_coordinates(topic, payload)
    value = envelope.envelope(topic, payload, "InvalidJson", "said why", content_type="text/plain")
    producer = Producer({"bootstrap.servers": stack.env["KAFKA_BOOTSTRAP_SERVERS"], "acks": "all"})
    producer.produce("iot-stream-dlq", value, key)
    assert producer.flush(30) == 0
    return key.decode()


@pytest.fixture
def token(database: Database, user: str) -> str:
    """A token of that user."""
    return tokens.create(database, user).token
