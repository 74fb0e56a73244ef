"""The declaration and the real table agree: what validation accepts, PostgreSQL accepts and gives back."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compose.local.stack import Stack
from tasks.domain.payload import Limits
from tasks.telemetry import DOMAIN
from tests.payloads import DECLARED, IDS, documents, written

TABLE_COLUMNS = """
    SELECT attname, atttypid::regtype::text FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
KEY_COLUMNS = """
    SELECT attname
    FROM pg_index, unnest(indkey) WITH ORDINALITY AS key (number, position), pg_attribute
    WHERE indrelid = %s::regclass AND indisprimary AND attrelid = indrelid AND attnum = key.number
    ORDER BY position
"""
READ_BACK = """
    SELECT time, user_id, device_id, sequence_id, temperature, battery, extra_data::text
    FROM raw_telemetry_staged ORDER BY ctid
"""
LIMITS = Limits()
EDGES: list[dict[str, Any]] = [
    {"sequence_id": 2**63 - 1, "time": "0001-01-01T00:00:00Z", "temperature": -0.0, "battery": -0.0},
    {"sequence_id": -(2**63), "time": "9999-12-31T23:59:59.999999Z", "temperature": 1.7976931348623157e308},
    {"sequence_id": 0, "time": "2024-02-29T23:59:59.000001+00:00", "temperature": 5e-324},
    {"sequence_id": 3, "temperature": 2**53 + 1, "battery": 2**31 - 1},
    {"sequence_id": 4, "battery": -(2.0**31)},
    {"sequence_id": 1, "exact": [10**4299, -(2**64), 2**53 + 1], "double": [1e308, 5e-324, 0.1, -0.0, 1e22]},
    {"sequence_id": 2, "text": "\\.\n\t\r\b\f\\N \\u0000 \u2028 \U0001f600 \x7f \x1b", "\\k\t": {"": ""}},
]


@pytest.fixture(scope="module")
def connection(stack: Stack) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection in UTC, so that the first and the last year come back as they are."""
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], options="-c timezone=UTC") as opened:
        yield opened


def test_the_table_is_the_declared_one(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Columns, their order and types, and the primary key are those that the model declares."""
    columns = connection.execute(TABLE_COLUMNS, (DOMAIN.table,)).fetchall()
    assert columns == [(name, DOMAIN.sql_types[name]) for name in DOMAIN.columns]
    key = connection.execute(KEY_COLUMNS, (DOMAIN.table,)).fetchall()
    assert tuple(name for (name,) in key) == DOMAIN.primary_key


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(messages=st.lists(st.tuples(st.tuples(IDS, IDS), documents()), max_size=30))
@example(messages=[(("u\\", "d"), edge) for edge in EDGES])
def test_every_accepted_reading_comes_back_equal(
    connection: psycopg.Connection[tuple[Any, ...]], messages: list[tuple[tuple[str, str], dict[str, Any]]]
) -> None:
    """COPY takes every line of an accepted reading, and each column reads back as what was sent."""
    readings = [
        DOMAIN.validate(
            f"users/{user}/devices/{device}/telemetry", written(document), 1_700_000_000_123, LIMITS
        )
        for (user, device), document in messages
    ]
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        cursor.execute(DOMAIN.stage)
        with cursor.copy(DOMAIN.copy_staged) as copy:
            copy.write(b"".join(reading.copy_line for reading in readings))
        rows = cursor.execute(READ_BACK).fetchall()
    assert len(rows) == len(messages)
    for row, (source, document) in zip(rows, messages, strict=True):
        time, user, device, sequence_id, temperature, battery, extra = row
        assert (user, device, sequence_id) == (*source, document["sequence_id"])
        assert time == sent_time(document)
        for stored, kind, name in ((temperature, float, "temperature"), (battery, int, "battery")):
            sent = document.get(name)
            assert repr(stored) == repr(None if sent is None else kind(sent))
        assert_same_json(
            json.loads(extra), {name: value for name, value in document.items() if name not in DECLARED}
        )


def test_the_real_table_takes_the_edges(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """The first and the last instant, and the largest values, fit the table; a second run adds nothing."""
    lines = [
        DOMAIN.validate("users/u/devices/d/telemetry", written(edge), 0, LIMITS).copy_line for edge in EDGES
    ]
    added = []
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        for _ in range(2):
            with connection.transaction():
                cursor.execute(DOMAIN.stage)
                with cursor.copy(DOMAIN.copy_staged) as copy:
                    copy.write(b"".join(lines))
                cursor.execute(DOMAIN.insert_staged)
                added.append(cursor.rowcount)
                cursor.execute("DROP TABLE raw_telemetry_staged")
    assert added == [len(EDGES), 0]


def sent_time(document: dict[str, Any]) -> datetime:
    """The instant that the row must have."""
    text = document.get("time")
    return datetime.fromisoformat(text.upper()) if text else datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)


def assert_same_json(stored: Any, sent: Any) -> None:
    """Equal to the type, but that jsonb writes a double such as 1e22 without its exponent, and has no -0."""
    if isinstance(sent, dict):
        assert stored.keys() == sent.keys()
        for key, value in sent.items():
            assert_same_json(stored[key], value)
    elif isinstance(sent, list):
        assert len(stored) == len(sent)
        for one, other in zip(stored, sent, strict=True):
            assert_same_json(one, other)
    elif isinstance(sent, float):
        assert float(stored) == sent
        assert math.isfinite(stored)
    else:
        assert (type(stored), stored) == (type(sent), sent)
