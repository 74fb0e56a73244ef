"""A new database in which rows are rolled up, and readings for it."""

import json
import os
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from compose.local.passwords import password
from compose.local.stack import Stack
from tasks.batch.messages import Row
from tasks.domain.routing import limits
from tasks.registry import default
from tasks.rollups import make
from tasks.rows.write import write
from tests.conftest import PROJECT, forget_servers
from tests.integration import forked

Database = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(params=["hypertables", "plain tables"])
def rolled(
    request: pytest.FixtureRequest, stack: Stack, empty: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """A new database, with rollups asked for, in which the modules of this process work."""
    request.getfixturevalue("on_servers")
    secret = password(stack.layout, "postgres-superuser")
    with psycopg.connect(empty, user="postgres", password=secret, autocommit=True) as server:
        database = sql.Identifier(server.info.dbname)
        server.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Kathmandu'").format(database))
        if request.param == "plain tables":
            server.execute(sql.SQL("ALTER DATABASE {} SET sluice.timescaledb = 'off'").format(database))
    assert migrate(empty) == 0
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        monkeypatch.setenv("DATABASE_URL", empty)
        monkeypatch.setenv("ROLLUPS", "true")
        monkeypatch.setattr(make, "_resting", {})
        forget_servers()
        yield connection
    forget_servers()


def migrate(conninfo: str, **settings: str) -> int:
    """Runs `sluice migrate`; returns its exit code."""
    servers = {"SLUICE_ENV_FILE": os.devnull, "DATABASE_URL": conninfo, "DATABASE_DIRECT_URL": ""}
    return forked.run(
        "ingest.cli", "migrate", env={**os.environ, **servers, **settings}, cwd=PROJECT
    ).returncode


def row(number: int, time: datetime, device: str, temperature: float | None, battery: int | None) -> Row:
    """The line of a reading."""
    payload = {"sequence_id": number, "time": time.isoformat(), "temperature": temperature}
    if battery is not None:
        payload["battery"] = battery
    domain = default()
    topic = f"users/u{number % 2}/devices/{device}/telemetry"
    return Row(0, number, domain.validate(topic, json.dumps(payload).encode(), 0, limits()).copy_line)


def some(chance: random.Random, count: int, begin: datetime, hours: int, first: int = 0) -> list[Row]:
    """Readings whose sums are exact in any order."""
    return [
        row(
            number,
            begin + timedelta(minutes=chance.randrange(hours * 60)),
            chance.choice(["a", "b", 'back\\slash "quote"']),
            chance.choice([None, chance.randrange(-400, 400) / 4]),
            chance.choice([None, chance.randrange(100)]),
        )
        for number in range(first, first + count)
    ]


def store(database: Database, rows: list[Row]) -> None:
    """Writes the rows as workers do."""
    _, unstored = write(database, default(), rows)
    assert unstored == []
