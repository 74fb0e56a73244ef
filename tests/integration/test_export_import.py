"""`sluice export` and `sluice import`, as an operator runs them on the telemetry's table."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tasks.batch.messages import Row
from tasks.domain.payload import Limits
from tasks.registry import default
from tasks.rows.write import write
from tests.integration.commands import sluice

Database = psycopg.Connection[tuple[Any, ...]]

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
SPAN = ("--from", "2026-05-01", "--to", "2026-05-02")


@pytest.fixture
def user(database: Database) -> str:
    """A user with ten readings of each of two devices, a minute apart."""
    name = f"u{uuid4().hex[:8]}"
    rows: list[Row] = []
    for device in ("a", "b"):
        for number in range(10):
            time = (BEGIN + timedelta(minutes=number)).isoformat()
            payload = {"sequence_id": number, "time": time, "temperature": number / 3, "note": 'a "b",\n'}
            topic = f"users/{name}/devices/{device}/telemetry"
            line = default().validate(topic, json.dumps(payload).encode(), 0, Limits()).copy_line
            rows.append(Row(0, len(rows), line))
    assert write(database, default(), rows) == (20, [])
    return name


def test_an_export_has_what_was_asked_for(stack: Stack, user: str, tmp_path: Path) -> None:
    """By user, device and time, the beginning included and the end not; the file is whole, or not there."""

    def exported(*arguments: str, code: int = 0) -> str:
        done = sluice(stack, "export", *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        return done.stdout or done.stderr

    rows = list(csv.DictReader(io.StringIO(exported(*SPAN, "--user", user, "--device", "a", "--out", "-"))))
    assert [(row["user_id"], row["device_id"], row["sequence_id"]) for row in rows] == [
        (user, "a", str(number)) for number in range(10)
    ]
    assert (rows[1]["time"], rows[1]["temperature"]) == ("2026-05-01T00:01:00.000000Z", repr(1 / 3))
    assert (rows[1]["battery"], json.loads(rows[1]["extra_data"])) == ("", {"note": 'a "b",\n'})
    part = ("--from", "2026-05-01T00:02Z", "--to", "2026-05-01T00:05Z", "--user", user)
    file = tmp_path / "part.parquet"
    assert exported(*part, "--out", str(file)) == "6 rows\n"
    assert [path.name for path in tmp_path.iterdir()] == ["part.parquet"]
    assert "--from must be before --to" in exported("--from", "1d", "--to", "2d", "--out", "-", code=1)
    assert "Only CSV goes to stdout" in exported(*SPAN, "--out", "-", "--format", "parquet", code=1)
    assert "Say in which format" in exported(*SPAN, "--out", "data", code=1)
    assert "cannot be written" in exported(*SPAN, "--out", str(tmp_path / "no" / "x.csv"), code=1)


def test_an_import_takes_what_is_right_and_lists_the_rest(
    stack: Stack, database: Database, user: str, tmp_path: Path
) -> None:
    """Each row as a reading would be; what is there stays, a key with other values is refused, too."""
    file, refused = tmp_path / "rows.csv", tmp_path / "refused.csv"
    header = "time,user_id,device_id,sequence_id,temperature,battery,extra_data\n"
    lines = [
        f'2026-05-01T00:00:00Z,{user},a,0,0.0,,"{{""note"": ""a \\""b\\"",\\n""}}"\n',
        f"2026-05-01T00:01:00Z,{user},a,1,99,,\n",
        f"2026-05-01T00:00:00Z,{user},c,1,warm,,\n",
        *(
            f"2026-05-01T00:{number % 60:02}:{number // 60:02}Z,{user},d,{number},1.5,7,\n"
            for number in range(30)
        ),
    ]
    file.write_text(header + "".join(lines))
    count = "SELECT count(*) FROM raw_telemetry WHERE user_id = %s"
    done = sluice(stack, "import", str(file), "--dry-run", "--json")
    assert done.returncode == 1
    tried = json.loads(done.stdout)
    assert (tried["rows"], tried["inserted"], tried["there_already"], tried["refused"]) == (33, 0, 0, 1)
    assert database.execute(count, [user]).fetchone() == (20,)
    for inserted in (30, 0):
        done = sluice(stack, "import", str(file), "--refused", str(refused), "--json")
        assert done.returncode == 1, done.stderr
        found = json.loads(done.stdout)
        assert (found["rows"], found["inserted"], found["refused"]) == (33, inserted, 2)
        assert found["there_already"] == 31 - inserted
        listed = list(csv.DictReader(refused.read_text().splitlines()))
        assert sorted((one["line"], one["error_type"]) for one in listed) == [
            ("3", "Conflict"),
            ("4", "InvalidField"),
        ]
    assert database.execute(count, [user]).fetchone() == (50,)
    assert database.execute("SELECT FROM devices WHERE user_id = %s", [user]).rowcount == 0
    again = sluice(stack, "import", str(tmp_path / "none.csv"))
    assert (again.returncode, "cannot be read" in again.stderr) == (1, True)
