"""The web process for tests of the console, and a user whose things its pages show."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tests.integration import web_process
from tests.integration.web_process import Web

Database = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def web(stack: Stack) -> Iterator[Web]:
    """The process, with no more rights than its role has."""
    with (
        web_process.role(stack) as url,
        web_process.running(stack, DATABASE_URL=url, WEB_REQUESTS_PER_SECOND="1000") as process,
    ):
        yield process


@pytest.fixture
def user(database: Database) -> str:
    """A user that no other test has, with a device and an open alert of it."""
    name = f"u{uuid4().hex[:8]}"
    database.execute(
        "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen)"
        " VALUES (%s, 'fridge', 'telemetry', now(), now())",
        [name],
    )
    database.execute(
        "INSERT INTO active_alerts"
        " (alert_id, status, user_id, device_id, rule_id, severity, message, count, first_seen)"
        " VALUES (%s, 'TRIGGERED', %s, 'fridge', 'hot', 'warning', '<b>Too hot</b>', 2, now())",
        [f"a-{name}", name],
    )
    return name
