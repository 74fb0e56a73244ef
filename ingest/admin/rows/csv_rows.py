"""Reads CSV as PostgreSQL writes it: nothing between two commas is NULL, `""` is an empty text. Pure.

Python's own reader does not distinguish the two before 3.12.
"""

import re
from collections.abc import Iterator
from typing import IO

from ingest.admin.errors import OperatorError

# A row holds at most a payload and what SQL adds to it, so a longer one has a quote that does not end.
MOST_BYTES = 16 * 1024 * 1024

_CELL = re.compile(rb'(?:"((?:[^"]|"")*+)"|([^",\r\n]*+))(,|\Z)')


class BrokenRow(Exception):
    """The row is no CSV. Its text is a sentence."""


Row = list[str | None]


def records(source: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each record with the number of its first line, from 1, without its end; none for empty lines.

    Raises `OperatorError` for a record that is too long to be true.
    """
    number = 0
    first, pieces, size, quotes = 1, list[bytes](), 0, 0
    while line := source.readline(MOST_BYTES + 1):
        number += 1
        if not pieces:
            first = number
        pieces.append(line)
        size += len(line)
        quotes += line.count(b'"')
        if size > MOST_BYTES:
            raise OperatorError(
                f"The row in line {first} has more than {MOST_BYTES} bytes: does a quote end?"
            )
        # Within quotes a line goes on.
        if quotes % 2:
            continue
        record = b"".join(pieces).removesuffix(b"\n").removesuffix(b"\r")
        pieces, size, quotes = [], 0, 0
        if record:
            yield first, record
    if pieces:
        raise OperatorError(f"The row in line {first} does not end: a quote is open at the end of the file.")


def cells(record: bytes) -> Row:
    """The cells of a record. Raises `BrokenRow`."""
    found: Row = []
    at, more = 0, True
    while more:
        cell = _CELL.match(record, at)
        if cell is None:
            raise BrokenRow(f"column {len(found) + 1} is neither in quotes nor without any")
        quoted, plain, end = cell.groups()
        at, more = cell.end(), end == b","
        try:
            if quoted is not None:
                found.append(quoted.replace(b'""', b'"').decode())
            else:
                found.append(plain.decode() if plain else None)
        except UnicodeDecodeError:
            raise BrokenRow(f"column {len(found) + 1} is not UTF-8") from None
    return found
