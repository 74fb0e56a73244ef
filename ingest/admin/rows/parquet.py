"""Parquet, by pyarrow, which is an extra: `pip install sluice[parquet]`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from ingest.admin.errors import OperatorError
from tasks.domain.cells import arrow_type
from tasks.domain.domain import AnyDomain

# The size of a row group, whichever comes first: readers skip whole groups, and a writer holds one.
GROUP_ROWS, GROUP_BYTES = 65_536, 32 * 1024 * 1024
READ_ROWS = 2000
DOMAIN = b"sluice.domain"


@contextmanager
def writer(domain: AnyDomain, output: IO[bytes]) -> Iterator[Callable[[Sequence[Sequence[Any]]], None]]:
    """Writes rows by the domain's columns. Raises `OperatorError` where pyarrow is missing."""
    arrow, files = _pyarrow()
    schema = schema_of(domain)
    waiting: list[Any] = []

    with files.ParquetWriter(output, schema, compression="zstd") as made:

        def flush() -> None:
            if waiting:
                made.write_table(arrow.Table.from_batches(waiting, schema))
                waiting.clear()

        def write(rows: Sequence[Sequence[Any]]) -> None:
            arrays = [
                arrow.array(column, field.type)
                for column, field in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            waiting.append(arrow.record_batch(arrays, schema=schema))
            if (
                sum(one.num_rows for one in waiting) >= GROUP_ROWS
                or sum(one.nbytes for one in waiting) >= GROUP_BYTES
            ):
                flush()

        yield write
        flush()


def rows(domain: AnyDomain, source: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with their numbers, from 1, by the domain's columns.

    Raises `OperatorError` for a file that is not an export of the domain.
    """
    arrow, files = _pyarrow()
    try:
        file = files.ParquetFile(source)
        _check(domain, file.schema_arrow)
        number = 0
        for batch in file.iter_batches(READ_ROWS):
            for row in _in_microseconds(arrow, batch).to_pylist():
                number += 1
                yield number, row
    except arrow.ArrowException as error:
        raise OperatorError(f"The file is not Parquet that can be read: {error}.") from error


def schema_of(domain: AnyDomain) -> Any:
    """The schema of the domain's export: the types of its columns, and its name."""
    arrow, _ = _pyarrow()
    fields = [
        arrow.field(
            name, _type(arrow, arrow_type(domain.sql_types[name])), nullable=name in _nullable(domain)
        )
        for name in domain.columns
    ]
    return arrow.schema(fields, {DOMAIN: domain.name.encode()})


def _check(domain: AnyDomain, found: Any) -> None:
    if (name := (found.metadata or {}).get(DOMAIN)) not in {None, domain.name.encode()}:
        raise OperatorError(
            f"The file has rows of the domain {name.decode(errors='replace')}; say --domain, and name its"
            " module in DOMAINS."
        )
    check_columns(domain, found.names)
    arrow, _ = _pyarrow()
    for name in domain.columns:
        own = found.field(name).type
        if arrow_type(domain.sql_types[name]) == "timestamp" and (
            not arrow.types.is_timestamp(own) or own.tz is None
        ):
            raise OperatorError(f"The column {name} must be a timestamp with a time zone, not {own}.")


def check_columns(domain: AnyDomain, found: Sequence[str]) -> None:
    """Raises `OperatorError` unless these are the domain's columns, each once, in any order."""
    if sorted(found) != sorted(domain.columns):
        raise OperatorError(
            f"The columns must be those of an export of {domain.name}: {', '.join(domain.columns)}."
            f" The file has {', '.join(found)[:500]}."
        )


def _in_microseconds(arrow: Any, batch: Any) -> Any:
    """The batch with times in UTC that Python has: what is finer is cut off, as in a reading."""
    for index, field in enumerate(batch.schema):
        if arrow.types.is_timestamp(field.type):
            times = batch.column(index).cast(arrow.timestamp("us", field.type.tz), safe=False)
            batch = batch.set_column(index, field.name, times.cast(arrow.timestamp("us", "UTC")))
    return batch


def _nullable(domain: AnyDomain) -> set[str]:
    return {*domain.nullable, *([domain.extra] if domain.extra else [])}


def _type(arrow: Any, name: str) -> Any:
    return (
        arrow.timestamp("us", "UTC")
        if name == "timestamp"
        else getattr(arrow, name.replace("bool", "bool_"))()
    )


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - an extra, and large
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise OperatorError(
            "Parquet needs pyarrow, which is not installed: pip install 'sluice[parquet]', or use CSV."
        ) from error
    return pyarrow, pyarrow.parquet
