"""`sluice domain` and `sluice migrate` for domains, as an operator runs them, on real tables."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ingest.admin.domains import domain_table
from tasks.batch.messages import Row
from tasks.domain.payload import Limits
from tasks.registry import load
from tasks.rows import write
from tests.conftest import PROJECT
from tests.integration import forked
from tests.integration.samples import MODULES
from tests.payloads import written

UUID = "0b81e6c2-4b1c-4b5c-8f7a-3a4a5b6c7d8e"

Database = psycopg.Connection[tuple[Any, ...]]

EVERYTHING = """
from typing import Annotated, Literal
from enum import StrEnum

from pydantic import Field

from tasks.domain import (
    Bigint, Boolean, Domain, Double, Integer, Json, Numeric, Point, Record, Text, Time, TopicLevel, Uuid, sql
)


class Colour(StrEnum):
    RED = "red"


class Thing(Record):
    thing_id: TopicLevel
    at: Time
    bigint: Bigint | None = None
    integer: Integer | None = None
    double: Double | None = None
    numeric: Numeric | None = None
    text: Text | None = None
    boolean: Boolean | None = None
    uuid: Uuid | None = None
    json_value: Json | None = None
    colour: Colour | None = None
    size: Literal["S", "M"] | None = None
    words: list[Text] | None = None
    matrix: list[list[Double | None]] | None = None
    place: Point | None = None
    address: Annotated[str, Field(strict=True), sql("inet", "an IP address")] | None = None


DOMAIN = Domain(
    Thing, name="things", topic="things/{thing_id}", owner="lab", source="{thing_id}", table="raw_things",
    time="at", primary_key=("thing_id", "at"),
)
"""
SMALL = """
from tasks.domain import Bigint, Domain, Double, Record, Text, Time, TopicLevel


class Box(Record):
    box_id: TopicLevel
    time: Time | None = None
    weight: FIELDS


DOMAIN = Domain(
    Box, name="boxes", topic="boxes/{box_id}", owner="lab", source="{box_id}", table="raw_boxes",
    primary_key=("time", "box_id"),
)
"""


@pytest.fixture
def written_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Writes a module where commands and this process find it, and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def sluice(url: str, tmp_path: Path, *arguments: str, domains: str = "tasks.telemetry") -> tuple[int, str]:
    """Runs the command; its exit code, and all that it printed."""
    done = forked.run(
        "ingest.cli",
        *arguments,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "SLUICE_ENV_FILE": os.devnull,
            "DATABASE_URL": url,
            "DATABASE_DIRECT_URL": "",
            "DOMAINS": domains,
        },
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_migrate_makes_every_domains_table_once(empty: str, tmp_path: Path) -> None:
    """Hypertables with the declared columns and keys; a second run changes nothing; check finds it right."""
    domains = ",".join(MODULES)
    for _ in range(2):
        code, told = sluice(empty, tmp_path, "migrate", domains=domains)
        assert code == 0, told
        assert "checked domain packages" in told
    code, told = sluice(empty, tmp_path, "domain", "check", domains=domains)
    assert (code, told.splitlines()) == (
        0,
        [
            "telemetry: raw_telemetry is as declared",
            "packages: raw_packages is as declared",
            "ticks: raw_ticks is as declared",
        ],
    )
    with psycopg.connect(empty) as connection:
        found = connection.execute(
            "SELECT hypertable_name FROM timescaledb_information.hypertables"
            " WHERE hypertable_name NOT LIKE 'rollups%'"
        ).fetchall()
    assert {name for (name,) in found} == {"raw_telemetry", "raw_packages", "raw_ticks"}


def test_the_telemetrys_own_migrations_make_what_it_declares(empty: str, tmp_path: Path) -> None:
    """The table that `sql/` makes and the one that `domain ddl` would make are the same."""
    code, told = sluice(empty, tmp_path, "migrate")
    assert code == 0, told
    with psycopg.connect(empty, autocommit=True) as connection:
        before = table(connection)
        connection.execute("DROP TABLE raw_telemetry")
        code, ddl = sluice(empty, tmp_path, "domain", "ddl", "telemetry")
        assert code == 0
        connection.execute(ddl.encode())
        assert table(connection) == before


def table(connection: Database) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Columns and indexes of the telemetry's table."""
    columns = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation::text,"
        " pg_get_expr(adbin, adrelid) FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid"
        " AND adnum = attnum WHERE attrelid = 'raw_telemetry'::regclass AND attnum > 0 ORDER BY attnum"
    ).fetchall()
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'raw_telemetry' ORDER BY 1"
    ).fetchall()
    return columns, indexes


def test_a_server_without_timescaledb_gets_plain_tables(
    empty: str, tmp_path: Path, written_domain: Callable[[str, str], str]
) -> None:
    """The printed migration runs on an empty plain database by itself, twice."""
    written_domain("boxes", SMALL.replace("FIELDS", "Bigint | None = None"))
    code, ddl = sluice(empty, tmp_path, "domain", "ddl", "boxes")
    assert code == 0
    with psycopg.connect(empty, autocommit=True) as connection:
        for _ in range(2):
            connection.execute(ddl.encode())
    assert sluice(empty, tmp_path, "domain", "check", "boxes") == (0, "boxes: raw_boxes is as declared\n")


def test_check_says_in_words_what_differs(
    empty: str, tmp_path: Path, written_domain: Callable[[str, str], str]
) -> None:
    """Every kind of difference, and exit code 1."""
    written_domain(
        "boxes", SMALL.replace("FIELDS", "Bigint\n    label: Text | None = None\n    height: Double")
    )
    code, told = sluice(empty, tmp_path, "domain", "check", "boxes")
    assert code == 1
    assert "the table raw_boxes does not exist; `sluice migrate` makes it" in told
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE raw_boxes (time timestamptz, box_id text NOT NULL, weight integer NOT NULL,"
            " extra_data jsonb NOT NULL, colour text NOT NULL, note text,"
            " added timestamptz NOT NULL DEFAULT now(), UNIQUE (box_id, weight))"
        )
    code, told = sluice(empty, tmp_path, "domain", "check", "boxes")
    assert code == 1
    assert told.splitlines() == [
        "boxes: the column time allows null, but the field is required",
        "boxes: the column weight is of the type integer, but declared as bigint",
        "boxes: the column label (text) is missing; `sluice migrate` adds it",
        "boxes: the column height (double precision) is missing, and the field is required:"
        " add it with a value for existing rows, or declare it optional",
        "boxes: the column colour is not declared, allows no null and has no default: no row can be written",
        "boxes: the key is declared as (time, box_id), but the table's unique keys are (box_id, weight):"
        " a repeated message would be stored again",
        "sluice: not as declared: raw_boxes",
    ]
    code, told = sluice(empty, tmp_path, "migrate", domains="boxes")
    assert code == 1
    assert "raw_boxes: the column weight is of the type integer" in told
    assert "label" not in told.split("as their domains declare them")[1]


def test_a_type_that_the_server_lacks_is_named(
    empty: str, tmp_path: Path, written_domain: Callable[[str, str], str]
) -> None:
    """With what to do."""
    text = SMALL.replace("FIELDS", "Bigint\n    place: GeoPoint | None = None")
    written_domain("boxes", text.replace("Text, Time", "GeoPoint, Text, Time"))
    code, told = sluice(empty, tmp_path, "migrate", domains="boxes")
    assert code == 1
    assert 'domain boxes failed and was rolled back: type "geometry" does not exist' in told


OTHERS: dict[str, Any] = {
    "bigint": 2**63 - 2,
    "integer": 0,
    "double": 0,
    "text": None,
    "boolean": False,
    "numeric": "12345678901234567890.0123456788",
    "uuid": None,
    "json_value": {"a": ["\\", 1.25]},
    "colour": None,
    "size": "S",
    "words": [],
    "matrix": [[1, None], [2.5, 4]],
    "place": "POINT(8.54 47.39)",
    "address": "10.0.0.0/9",
}


def test_every_kind_of_column_comes_back_equal(
    empty: str, tmp_path: Path, written_domain: Callable[[str, str], str]
) -> None:
    """The database has what was sent; a value that its own type refuses is found alone, with its words."""
    (domain,) = load(written_domain("things", EVERYTHING))
    code, told = sluice(empty, tmp_path, "migrate", domains="things")
    assert code == 0, told
    words = ['say "hi"', "a,b\t", "{}", "\\", "", "NULL", "ü\n"]
    sent = {
        "at": "2026-05-01T10:00:00.000001+02:00",
        "bigint": 2**63 - 1,
        "integer": -(2**31),
        "double": 5e-324,
        "text": "\\N\t",
        "boolean": True,
        "numeric": "12345678901234567890.0123456789",
        "uuid": UUID,
        "json_value": {"a": ["\\", 1.5]},
        "colour": "red",
        "size": "M",
        "words": words,
        "matrix": [[1, None], [2.5, 3]],
        "place": "POINT(8.54 47.38)",
        "address": "10.0.0.0/8",
        "more": 1,
    }
    payloads = [sent, {"at": "2026-05-01T09:00:00Z"}, {"at": "2026-05-01T09:00:01Z", "address": "nowhere"}]
    rows = [
        Row(0, n, domain.validate("things/a", written(payload), 0, Limits()).copy_line)
        for n, payload in enumerate(payloads)
    ]
    query = f"SELECT to_jsonb(t) - 'at', at = '2026-05-01T08:00:00.000001Z' FROM {domain.table} t ORDER BY at"
    with psycopg.connect(empty, autocommit=True) as connection:
        inserted, refused = write.write(connection, domain, rows)
        assert inserted == 2
        assert [(one.row.offset, one.reason) for one in refused] == [
            (2, 'invalid input syntax for type inet: "nowhere" (SQLSTATE 22P02)')
        ]
        assert write.write(connection, domain, rows[:2]) == (0, [])
        others = [
            Row(0, n, domain.validate("things/a", written(sent | {name: value}), 0, Limits()).copy_line)
            for n, (name, value) in enumerate(OTHERS.items())
        ]
        _, conflicts = write.write(connection, domain, others)
        assert [one.reason.rpartition(": ")[2] for one in conflicts] == list(OTHERS)
        (full, at), (bare, _) = connection.execute(query).fetchall()
        numeric = connection.execute(f"SELECT numeric::text FROM {domain.table} WHERE numeric IS NOT NULL")
        assert numeric.fetchone() == (sent["numeric"],)
        assert domain_table.differences(connection, domain) == []
    assert at
    expected = {name: value for name, value in sent.items() if name not in {"at", "more", "numeric"}}
    assert {name: full[name] for name in expected} == expected | {"place": "(8.54,47.38)"}
    assert full["extra_data"] == {"more": 1}
    assert {value for name, value in bare.items() if name not in {"thing_id", "extra_data"}} == {None}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_every_kind_of_column_is_the_same_after_export_and_import(
    empty: str, tmp_path: Path, written_domain: Callable[[str, str], str], ending: str
) -> None:
    """Export, import into an empty table, export: the two files are equal, and so are the rows."""
    (domain,) = load(written_domain("things", EVERYTHING))
    code, told = sluice(empty, tmp_path, "migrate", domains="things")
    assert code == 0, told
    full = {
        "bigint": -(2**63),
        "integer": 2**31 - 1,
        "double": 1.7976931348623157e308,
        "numeric": "-0.00012345678901234567890123456789",
        "text": 'a "b", \\N\r\nc\\',
        "boolean": False,
        "uuid": UUID,
        "json_value": [1e22, -0.0, "\\", {"a": None}],
        "colour": "red",
        "size": "S",
        "words": ['say "hi"', "a,b\t", "{}", "\\", "", "NULL", "ü\n"],
        "matrix": [[1, None], [2.5, 5e-324]],
        "place": "POINT(8.54 -47.38)",
        "address": "10.0.0.0/8",
        "more": {"deep": [10**40, 1.5e-300, "ü"]},
    }
    times = ("0001-01-01T00:00:00.000001Z", "9999-12-31T23:59:59.999999Z", "2026-05-01T10:00:00Z")
    payloads = [full | {"at": times[0]}, {"at": times[1], "text": ""}, {"at": times[2]}]
    rows = [
        Row(0, n, domain.validate(f"things/ä {n}", written(payload), 0, Limits()).copy_line)
        for n, payload in enumerate(payloads)
    ]
    content = f"SELECT * FROM {domain.table} ORDER BY at"
    span = ("--from", "0001-01-01", "--to", "9999-12-31T23:59:59.999999+00:00")
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"
    with psycopg.connect(empty, autocommit=True, options="-c timezone=UTC") as connection:
        connection.execute(
            psycopg.sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Kathmandu'").format(
                psycopg.sql.Identifier(connection.info.dbname)
            )
        )
        assert write.write(connection, domain, rows) == (3, [])
        before = connection.execute(content).fetchall()
        # The end is excluded, and there is no later time.
        connection.execute(f"UPDATE {domain.table} SET at = at - interval '1 us' WHERE at > '9999-01-01'")
        before = connection.execute(content).fetchall()
        assert sluice(empty, tmp_path, "export", *span, "--out", str(first), domains="things") == (
            0,
            "3 rows\n",
        )
        connection.execute(f"DELETE FROM {domain.table}")
        code, told = sluice(empty, tmp_path, "import", str(first), domains="things")
        assert (code, told.split()[:6]) == (0, ["3", "rows", "in", "the", "file", "3"]), told
        assert connection.execute(content).fetchall() == before
        assert sluice(empty, tmp_path, "export", *span, "--out", str(second), domains="things")[0] == 0
        assert first.read_bytes() == second.read_bytes()
        code, told = sluice(empty, tmp_path, "import", str(first), "--json", domains="things")
        assert (code, json.loads(told)["there_already"]) == (0, 3)
