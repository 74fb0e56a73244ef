"""An import reads an export as the same rows; a line that is not a row is refused with its number."""

import io
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.errors import OperatorError
from ingest.admin.rows import csv_rows, import_rows, parquet
from ingest.admin.rows.export import format_of, written_whole
from ingest.admin.rows.import_rows import Outcome, RefusedRow
from tasks.domain.cells import Cells
from tasks.domain.payload import Limits
from tasks.registry import load
from tests.copy_text import decode_line
from tests.payloads import IDS, TEXTS, documents, written

TELEMETRY = load("tasks.telemetry")[0]
LIMITS = Limits()
HEADER = ",".join(TELEMETRY.columns)
GOOD = '2026-05-01T10:00:00Z,anna,boiler,1,21.5,93,"{""door"": ""open""}"'


def as_csv(cells: list[str | None]) -> bytes:
    """A record as PostgreSQL writes it; every text in quotes, which it reads as well."""
    quoted = ["" if cell is None else '"' + cell.replace('"', '""') + '"' for cell in cells]
    return ",".join(quoted).encode() + b"\n"


def lines_of(rows: list[tuple[int, Any]]) -> list[bytes]:
    """The rows as COPY text."""
    cells = Cells(TELEMETRY, LIMITS)
    return [cells.line(row) for _, row in rows]


@given(st.lists(st.tuples(IDS, IDS, documents()), max_size=5))
def test_a_reading_is_the_same_row_after_csv_and_after_parquet(sent: list[tuple[str, str, Any]]) -> None:
    """Every text, number, time and member, whatever stands in it."""
    readings = [
        (
            user,
            device,
            TELEMETRY.validate(f"users/{user}/devices/{device}/telemetry", written(one), 5, LIMITS),
        )
        for user, device, one in sent
    ]
    lines = [reading.copy_line for _, _, reading in readings]
    cells = [decode_line(line) for line in lines]
    text = HEADER.encode() + b"\r\n" + b"".join(map(as_csv, cells))
    assert lines_of(list(import_rows.csv_file(TELEMETRY, io.BytesIO(text)))) == lines

    rows = []
    for (user, device, reading), (*_, extra) in zip(readings, cells, strict=True):
        fields = reading.fields.__dict__
        own = (fields["sequence_id"], fields["temperature"], fields["battery"])
        rows.append((reading.time, user, device, *own, extra))
    file = io.BytesIO()
    with parquet.writer(TELEMETRY, file) as write:
        if rows:
            write(rows)
    assert lines_of(list(parquet.rows(TELEMETRY, io.BytesIO(file.getvalue())))) == lines


@given(st.lists(st.lists(st.none() | TEXTS, min_size=2, max_size=4), max_size=6))
def test_null_and_an_empty_text_differ_in_csv(table: list[list[str | None]]) -> None:
    """Also with quotes, commas and ends of lines in the texts."""
    text = b"".join(map(as_csv, table))
    assert [csv_rows.cells(record) for _, record in csv_rows.records(io.BytesIO(text))] == table


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_refused(junk: bytes) -> None:
    """No bytes of a file end in a fault that is not a sentence."""
    with suppress(OperatorError):  # a quote that does not end
        outcome, refused = imported(HEADER.encode() + b"\n" + junk)
        assert outcome.refused == len(refused) <= outcome.rows


def imported(text: bytes) -> tuple[Outcome, list[RefusedRow]]:
    """The outcome of a file that is only validated."""
    refused: list[RefusedRow] = []
    source = io.BytesIO(text)
    outcome = import_rows.import_rows(None, TELEMETRY, source, "csv", refused.append, lambda *_: None)
    return outcome, refused


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (GOOD.replace("21.5", "warm"), '`temperature` must be a finite number, got the string "warm"'),
        (GOOD.replace("21.5", "NaN"), '`temperature` must be a finite number, got the string "NaN"'),
        (GOOD.replace(",1,", ",,"), "`sequence_id` is missing; it must be a 64-bit integer"),
        (GOOD.replace(",1,", f",{2**63},"), "`sequence_id` must be a 64-bit integer"),
        (GOOD.replace("93", "9.5"), "`battery` must be a 32-bit integer"),
        (GOOD.replace("10:00:00Z", "10:00:00"), "`time` must end in Z or a UTC offset"),
        (GOOD.replace("2026-05-01T10:00:00Z", ""), "`time` is missing; it must be a time"),
        (GOOD.replace("boiler", "a/b"), "`device_id` must not hold control characters, '+', '#' or '/'"),
        (GOOD.replace("anna", ""), "`user_id` is missing; it must be a string"),
        (GOOD.replace("door", "\\u0000"), "holds a NUL character"),
        (GOOD.replace('"{""door"": ""open""}"', "[1]"), "`extra_data` must be a JSON object"),
        (GOOD.replace('"{""door"": ""open""}"', "{"), "`extra_data`: the payload must be JSON"),
        (GOOD + ",7", "it has 8 columns, not 7"),
        (GOOD.replace("anna", 'an"n"a'), "neither in quotes nor without any"),
    ],
)
def test_a_row_that_no_reading_has_is_refused_with_its_line(row: str, why: str) -> None:
    """The others are taken; the line counts those within quotes, too."""
    spread = GOOD.replace(": ", ":\n")
    outcome, refused = imported("\n".join([HEADER, spread, row, GOOD, ""]).encode())
    assert (outcome.rows, outcome.refused) == (3, 1)
    assert [one.line for one in refused] == [4]
    assert why in refused[0].reason


def test_a_file_of_other_columns_is_refused_at_once() -> None:
    """With the columns that it should have."""
    with pytest.raises(OperatorError, match="time, user_id, device_id, sequence_id, temperature"):
        imported(b"time,user_id\n")
    with pytest.raises(OperatorError, match="does not end: a quote is open"):
        imported(HEADER.encode() + b'\n"2026\n')
    with pytest.raises(OperatorError, match="not Parquet that can be read"):
        list(parquet.rows(TELEMETRY, io.BytesIO(b"PAR1 is not enough")))


def test_a_file_is_there_only_when_it_is_whole(tmp_path: Any) -> None:
    """A failure in between leaves what was there before."""
    file = tmp_path / "out.csv"
    file.write_bytes(b"before")
    with pytest.raises(TypeError), written_whole(str(file)) as output:
        output.writelines([b"half", None])  # type: ignore[list-item]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert file.read_bytes() == b"before"
    with written_whole(str(file)) as output:
        output.write(b"whole")
    assert file.read_bytes() == b"whole"
    with pytest.raises(OperatorError, match="--format"):
        format_of("out.xlsx", None)


def test_without_pyarrow_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra of the package."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(OperatorError, match=r"pip install 'sluice\[parquet\]'"):
        parquet.schema_of(TELEMETRY)
