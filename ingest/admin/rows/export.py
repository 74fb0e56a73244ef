"""The work of `sluice export`: the rows of a domain in a range of time, as CSV or Parquet, row by row."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, LiteralString, NamedTuple

from psycopg import sql

from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from ingest.admin.rows import parquet
from tasks.domain.cells import arrow_type, exported
from tasks.domain.domain import AnyDomain
from tasks.servers.table_names import names

Format = Literal["csv", "parquet"]
Progress = Callable[[str, int, int], None]

# A few MB of rows at once, and a look at the clock.
ROWS_AT_ONCE = 2000

_SELECT: LiteralString = "SELECT {columns} FROM {table} WHERE {conditions} ORDER BY {order}"
_CONDITIONS: dict[str, LiteralString] = {
    "begin": "{time} >= %(begin)s",
    "end": "{time} < %(end)s",
    "user": "{owner} = %(user)s",
    "device": "{source} = %(device)s",
}


class Wanted(NamedTuple):
    """Rows of a domain from `begin` up to, and without, `end`, of one user, of one device, or of all."""

    domain: AnyDomain
    begin: datetime
    end: datetime
    user: str | None = None
    device: str | None = None


def format_of(file: str, given: str | None) -> Format:
    """The format, by its name or the ending of the file. Raises `OperatorError`."""
    name = given or Path(file).suffix.removeprefix(".").lower()
    if name == "csv":
        return "csv"
    if name == "parquet":
        return "parquet"
    raise OperatorError(f"Say in which format {file} is: --format csv, or --format parquet.")


def export(
    connection: Connection, wanted: Wanted, output: IO[bytes], chosen: Format, progress: Progress
) -> int:
    """Writes the rows by time; returns how many. It holds a few MB of them at once.

    Raises `OperatorError`, `psycopg.Error`, `OSError`.
    """
    if wanted.begin >= wanted.end:
        raise OperatorError("--from must be before --to.")
    with connection.transaction():
        connection.execute("SET LOCAL timezone = 'UTC'")
        write = _write_csv if chosen == "csv" else _write_parquet
        return write(connection, wanted, output, progress)


@contextmanager
def written_whole(file: str) -> Iterator[IO[bytes]]:
    """The file to write: there under its name once it is whole, and not at all if the block fails.

    Raises `OperatorError`.
    """
    path = Path(file)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as output:
            yield output
            output.flush()
            os.fsync(output.fileno())
        part.replace(path)
    except OSError as error:
        raise OperatorError(f"{file} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _write_csv(connection: Connection, wanted: Wanted, output: IO[bytes], progress: Progress) -> int:
    domain = wanted.domain
    columns = [_column(name, exported(domain.sql_types[name])) for name in domain.columns]
    # In quotes there is a text, however empty; NULL is nothing at all.
    query = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, HEADER)").format(_query(wanted, columns))
    count = -1
    with connection.cursor() as cursor, cursor.copy(query, _values(wanted)) as copy:
        for line in copy:
            output.write(line)
            count += 1
            if count % ROWS_AT_ONCE == 1:
                _progress(wanted, datetime.fromisoformat(bytes(line[:27]).decode()), progress)
    return count


def _write_parquet(connection: Connection, wanted: Wanted, output: IO[bytes], progress: Progress) -> int:
    domain = wanted.domain
    columns = []
    for name in domain.columns:
        as_text: LiteralString | None = None
        if arrow_type(domain.sql_types[name]) == "string":
            as_text = exported(domain.sql_types[name]) or "{column}::text"
        columns.append(_column(name, as_text))
    count = 0
    with (
        parquet.writer(domain, output) as write,
        connection.cursor(name="sluice_export") as cursor,
    ):
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(_query(wanted, columns), _values(wanted))
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            write(rows)
            count += len(rows)
            first: Any = rows[0][0]
            _progress(wanted, first, progress)
    return count


def _query(wanted: Wanted, columns: list[sql.Composable]) -> sql.Composed:
    domain = wanted.domain
    own = names(domain)
    given = _values(wanted)
    conditions = [
        sql.SQL(text).format(**own) for name, text in _CONDITIONS.items() if given[name] is not None
    ]
    # By time, as the key of most domains is, so that the database need not sort; then by the rest of the key.
    order = [domain.time, *(name for name in domain.primary_key if name != domain.time)]
    return sql.SQL(_SELECT).format(
        columns=sql.SQL(", ").join(columns),
        table=own["table"],
        conditions=sql.SQL(" AND ").join(conditions),
        order=sql.SQL(", ").join(sql.Identifier(domain.table, name) for name in order),
    )


def _column(name: str, text: LiteralString | None) -> sql.Composable:
    column = sql.Identifier(name)
    shown = column if text is None else sql.SQL(text).format(column=column)
    # The time is the first column, which the order must not take for the table's.
    return sql.SQL("{} AS {}").format(shown, sql.Identifier(name))


def _values(wanted: Wanted) -> dict[str, Any]:
    device = None if wanted.device is None else wanted.domain.source_id(wanted.device)
    return {"begin": wanted.begin, "end": wanted.end, "user": wanted.user, "device": device}


def _progress(wanted: Wanted, time: datetime, progress: Progress) -> None:
    whole = (wanted.end - wanted.begin).total_seconds()
    done = (time.astimezone(UTC) - wanted.begin).total_seconds()
    progress("rows, by their time", int(done), max(1, int(whole)))
