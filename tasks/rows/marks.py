"""Marks of the hours that rows have come for: what is rolled up again. Written together with the rows."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple
from weakref import WeakSet

import psycopg
from psycopg.types.json import Jsonb

from tasks.batch.messages import Row
from tasks.domain.domain import AnyDomain

SECONDS_OF_HOUR = 3600
BEGINNING = datetime(1970, 1, 1)  # noqa: DTZ001 - lines have their times in UTC, and no offset in the hour
HOUR = timedelta(hours=1)
# A mark of an hour that is long over names the devices, unless there are more: then it is all of that hour.
MOST_DEVICES = 100

# A domain that is not rolled up has no line in rollup_progress, and no marks.
WRITE: LiteralString = """
INSERT INTO rollup_marks (domain, hour, users, devices)
SELECT %(domain)s, hour, users, devices
FROM jsonb_to_recordset(%(marks)s) AS made (hour integer, users text[], devices text[])
WHERE EXISTS (SELECT FROM rollup_progress WHERE domain = %(domain)s)
"""

_with_marks: "WeakSet[psycopg.Connection[Any]]" = WeakSet()


class Mark(NamedTuple):
    """An hour since 1970 (UTC) with new rows, and whose they are: None means any device's."""

    hour: int
    users: list[str] | None = None
    devices: list[str] | None = None


def made(domain: AnyDomain, rows: Iterable[Row], starts: Iterable[bytes]) -> list[Mark]:
    """The marks of the rows, whose lines start with these hours, such as `2026-05-01T10`."""
    now = int(time.time()) // SECONDS_OF_HOUR
    hours = {start: (datetime.fromisoformat(start.decode()) - BEGINNING) // HOUR for start in starts}
    late = {start: set[tuple[bytes, bytes]]() for start, hour in hours.items() if hour < now - 1}
    marks = [Mark(hour) for start, hour in hours.items() if start not in late]
    if late:
        cells_of = _source_cells(domain)
        for row in rows:
            line = row.line
            if (sources := late.get(line[:13])) is not None and len(sources) <= MOST_DEVICES:
                sources.add(cells_of(line))
    for start, sources in late.items():
        # An id that is escaped is rare.
        if len(sources) > MOST_DEVICES or any(b"\\" in cell for cells in sources for cell in cells):
            marks.append(Mark(hours[start]))
        else:
            named = sorted(
                (user.decode().rstrip("\n"), device.decode().rstrip("\n")) for user, device in sources
            )
            marks.append(Mark(hours[start], [user for user, _ in named], [device for _, device in named]))
    return marks


def write(cursor: psycopg.Cursor[Any], domain: AnyDomain, marks: list[Mark]) -> None:
    """Writes the marks, in the transaction of their rows, if the domain is rolled up.

    Where the schema is older than the marks, nothing is rolled up, and there are none to write. If the schema
    changes before the end of this transaction, that is older than the beginning of the rollups, which wait
    for it.
    """
    if not _has_marks(cursor):
        return
    given = Jsonb([mark._asdict() for mark in marks])
    cursor.execute(WRITE, {"domain": domain.name, "marks": given})


def _has_marks(cursor: psycopg.Cursor[Any]) -> bool:
    """Whether the schema has the table; asked once on each connection, and again while it does not."""
    if cursor.connection not in _with_marks:
        found = cursor.execute("SELECT to_regclass('rollup_marks') IS NOT NULL").fetchone()
        if not (found and found[0]):
            return False
        _with_marks.add(cursor.connection)
    return True


def _source_cells(domain: AnyDomain) -> Callable[[bytes], tuple[bytes, bytes]]:
    """From a line of COPY text the cells of user and device, not unescaped: all late rows come by here."""
    device = domain.columns.index(domain.source)
    if not domain.owner:
        fixed = (domain.user_id or "").encode()
        return lambda line: (fixed, line.split(b"\t", device + 1)[device])
    user = domain.columns.index(domain.owner)
    last = max(user, device) + 1

    def cells_of(line: bytes) -> tuple[bytes, bytes]:
        cells = line.split(b"\t", last)
        return cells[user], cells[device]

    return cells_of
