"""The work of `sluice import`: rows of an export into a domain's table, each as a reading would be, silently.

No rule judges them, and no registry counts them. It may be interrupted and repeated: a row that is there
stays as it is.
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple

from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from ingest.admin.rows import csv_rows, parquet
from ingest.admin.rows.export import Format
from tasks.batch.messages import Row
from tasks.domain import routing
from tasks.domain.cells import Cells
from tasks.domain.domain import AnyDomain
from tasks.domain.payload import Refused
from tasks.rows.write import write
from tasks.settings import settings

Progress = Callable[[str, int, int], None]

# Rows, and bytes of lines, in one transaction.
ROWS_AT_ONCE, BYTES_AT_ONCE = 5000, 8 * 1024 * 1024


class RefusedRow(NamedTuple):
    """A row that is not imported: its line in CSV, or its number in Parquet, and why."""

    line: int
    error_type: str
    reason: str


class Outcome(NamedTuple):
    """The fate of a file's rows; `old` are the valid ones that are older than retention.

    Where they were only validated, none is `inserted` or `there_already`.
    """

    rows: int
    inserted: int
    there_already: int
    refused: int
    old: int


class _Counts:
    def __init__(self) -> None:
        self.rows = self.inserted = self.there = self.refused = self.old = 0

    def outcome(self) -> Outcome:
        return Outcome(self.rows, self.inserted, self.there, self.refused, self.old)


def import_rows(
    connection: Connection | None,
    domain: AnyDomain,
    source: IO[bytes],
    chosen: Format,
    refuse: Callable[[RefusedRow], None],
    progress: Progress,
) -> Outcome:
    """Imports the rows, some thousands in each transaction; only validates them without a connection.

    Raises `OperatorError` for a file that is not an export of the domain, `psycopg.Error`.
    """
    read = csv_file if chosen == "csv" else parquet.rows
    cells_of, counts = Cells(domain, routing.limits()), _Counts()
    size = _size(source)
    days = settings().retention_days_in(domain.name)
    oldest = f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}".encode() if days else b""
    batch: list[Row] = []
    held = 0

    def store() -> None:
        if connection is not None and batch:
            inserted, unstored = write(connection, domain, batch)
            counts.inserted += inserted
            counts.refused += len(unstored)
            counts.there += len(batch) - inserted - len(unstored)
            for one in unstored:
                refuse(RefusedRow(one.row.offset, one.error_type, one.reason))
        counts.old += sum(row.line[:10] < oldest for row in batch)
        batch.clear()
        if size:
            progress("bytes of the file", min(source.tell(), size), size)

    for number, row in read(domain, source):
        counts.rows += 1
        try:
            line = _line(cells_of, row)
        except Refused as refused:
            counts.refused += 1
            refuse(RefusedRow(number, refused.error_type, refused.reason))
            continue
        # If two rows of a file have one key, the first counts: the place of a row is its line.
        batch.append(Row(0, number, line))
        held += len(line)
        if len(batch) >= ROWS_AT_ONCE or held >= BYTES_AT_ONCE:
            store()
            held = 0
    store()
    return counts.outcome()


def _line(cells_of: Cells, row: dict[str, Any] | csv_rows.BrokenRow) -> bytes:
    if isinstance(row, csv_rows.BrokenRow):
        raise Refused("InvalidField", str(row))
    return cells_of.line(row)


@contextmanager
def opened(file: str) -> Iterator[IO[bytes]]:
    """The file to read. Raises `OperatorError`."""
    try:
        with Path(file).open("rb") as source:
            yield source
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror or error}.") from error


@contextmanager
def refusals(file: str | None, shown: Callable[[RefusedRow], None]) -> Iterator[Callable[[RefusedRow], None]]:
    """Takes refused rows: to `shown`, and all of them into a CSV file. Raises `OperatorError`."""
    if file is None:
        yield shown
        return
    try:
        with Path(file).open("w", newline="") as output:
            table = csv.writer(output)
            table.writerow(RefusedRow._fields)

            def refuse(row: RefusedRow) -> None:
                table.writerow(row)
                shown(row)

            yield refuse
    except OSError as error:
        raise OperatorError(f"{file} cannot be written: {error.strerror or error}.") from error


def csv_file(domain: AnyDomain, source: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """The rows of a CSV file with the numbers of their lines, by the domain's columns, or why one is broken.

    Raises `OperatorError` for a file that is not an export of the domain.
    """
    records = csv_rows.records(source)
    try:
        header = [
            name or "" for name in csv_rows.cells(next(records, (0, b""))[1].removeprefix(b"\xef\xbb\xbf"))
        ]
    except csv_rows.BrokenRow as error:
        raise OperatorError(f"The first line must have the names of the columns: {error}.") from error
    parquet.check_columns(domain, header)
    for number, record in records:
        yield number, _row(header, record)


def _row(header: list[str], record: bytes) -> dict[str, str | None] | csv_rows.BrokenRow:
    try:
        found = csv_rows.cells(record)
    except csv_rows.BrokenRow as error:
        return error
    if len(found) != len(header):
        return csv_rows.BrokenRow(f"it has {len(found)} columns, not {len(header)}")
    return dict(zip(header, found, strict=True))


def _size(source: IO[bytes]) -> int:
    if not source.seekable():
        return 0
    end = source.seek(0, 2)
    source.seek(0)
    return end
