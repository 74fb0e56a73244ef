"""Makes the rollups of hours that rows have come for, and of those that were there before.

One transaction per hour takes its marks away, reads its rows and writes the rollups. A row that commits later
has a mark of its own, so a run that is killed, or comes twice, changes nothing.
"""

import time
from typing import Any, LiteralString, NamedTuple

import psycopg
import structlog

from tasks import registry
from tasks.domain.domain import AnyDomain
from tasks.observe.metrics.worker import ROLLED_UP
from tasks.rollups import behind, statements
from tasks.servers import database
from tasks.settings import settings

log = structlog.get_logger()

# The turn is a lock in the database, because a statement may take longer than a turn in Redis lasts. Its
# number: the letters "rollup" in ASCII.
LOCK = int.from_bytes(b"rollup", "big")
# An hour is rolled up when it is over and no rows come for it, or have come for a while.
OVER_SECONDS, QUIET_SECONDS, MOST_SECONDS = 120, 60, 600
# The time after which another domain is the first, and after which an hour is tried again that failed.
TURN_SECONDS, REST_SECONDS = 60, 600
FEW_DEVICES = 1000

_resting: dict[tuple[str, int], float] = {}

# The hour that is now or comes next waits until it is over; rows from the far future would wait forever.
DUE: LiteralString = """
SELECT hour FROM rollup_marks WHERE domain = %(domain)s GROUP BY hour
HAVING hour <> ALL(%(resting)s::integer[]) AND (hour < %(all_before)s OR (
    (hour < floor((extract(epoch FROM now()) - %(over)s) / 3600)
        OR hour > extract(epoch FROM now()) / 3600 + 1)
    AND (max(marked_at) < now() - %(quiet)s * interval '1 s'
        OR min(marked_at) < now() - %(most)s * interval '1 s')))
ORDER BY hour LIMIT 1
"""
TAKE: LiteralString = """
DELETE FROM rollup_marks WHERE domain = %(domain)s AND hour = %(hour)s RETURNING users, devices
"""
# Rows of what is gone are not all that there were.
GONE_BEFORE: LiteralString = """
SELECT coalesce(max(gone_before), -2147483648) FROM retention
WHERE relation IN (%(table)s, 'rollups_hourly')
"""
PROGRESS: LiteralString = """
SELECT made_from, complete, started < pg_snapshot_xmin(pg_current_snapshot()) FROM rollup_progress
WHERE domain = %(domain)s
"""
MADE: LiteralString = """
UPDATE rollup_progress SET made_from = %(made_from)s, complete = %(complete)s WHERE domain = %(domain)s
"""
# Two transactions: a writer that does not see the line yet writes rows without marks; it is older than the
# second.
ON: LiteralString = """
INSERT INTO rollup_progress (domain, started) VALUES (%(domain)s, '18446744073709551615')
ON CONFLICT DO NOTHING
"""
STARTED: LiteralString = """
UPDATE rollup_progress SET started = pg_current_xact_id()
WHERE domain = %(domain)s AND started = '18446744073709551615'
"""
# Rows that come from now on have no marks: if it is asked for again, all hours are made again.
OFF: LiteralString = "DELETE FROM rollup_progress WHERE domain = %(domain)s"
OFF_MARKS: LiteralString = "DELETE FROM rollup_marks WHERE domain = %(domain)s"


class Progress(NamedTuple):
    """How far the hours are made that were there before; `ready` when no row can come without its mark."""

    made_from: int | None
    complete: bool
    ready: bool


def run(seconds: float, all_before: int = -(2**31)) -> bool:
    """Makes what is due of every domain, for about `seconds` at most; returns False if some of it is left.

    Rows that came for hours before `all_before` (since 1970) are due at once. Does nothing while another
    worker does it. A refusal by the database for one domain or hour does not hold up the others; it is raised
    as `psycopg.Error` at the end.
    """
    until = time.monotonic() + seconds
    refused: psycopg.Error | None = None
    # Each in its turn is the first, so that none waits for another that has much to do.
    domains = registry.domains()
    first = int(time.time() // TURN_SECONDS) % len(domains)
    for domain in (*domains[first:], *domains[:first]):
        try:
            on = settings().rollups and bool(statements.numeric_columns(domain))
            behind.note(domain, on=on, complete=False)
            switch(domain, on=on)
            while (done := _step(domain, all_before)) is not None:
                ROLLED_UP.add(done)
                if time.monotonic() > until:
                    return False
        except psycopg.Error as error:
            refused = error
    if refused is not None:
        raise refused
    return True


def switch(domain: AnyDomain, *, on: bool) -> None:
    """Has the domain rolled up from now on, or no longer. Its rollups stay."""
    values = {"domain": domain.name}
    with database.access() as connection:
        there = connection.execute(PROGRESS, values).fetchone() is not None
        if on:
            if not there:
                connection.execute(ON, values)
                log.info("rollups_begin", domain=domain.name)
            connection.execute(STARTED, values)
        elif there and not on:
            with connection.transaction():
                connection.execute(OFF, values)
                connection.execute(OFF_MARKS, values)


def _step(domain: AnyDomain, all_before: int) -> int | None:
    """Makes one hour, in a transaction; returns 1, or 0 where it was gone, or None if none is due."""
    with database.access() as connection, connection.transaction():
        if not _alone(connection):
            return None
        values: dict[str, Any] = {
            "domain": domain.name,
            "table": domain.table,
            "all_before": all_before,
            "over": OVER_SECONDS,
            "quiet": QUIET_SECONDS,
            "most": MOST_SECONDS,
            "resting": _resting_hours(domain),
        }
        gone_before = int(str(_one(connection, GONE_BEFORE, values)))
        due = connection.execute(DUE, values).fetchone()
        if due is not None:
            hour = int(str(due[0]))
            marks = connection.execute(TAKE, {"domain": domain.name, "hour": hour}).fetchall()
            if hour < gone_before:
                return 0
            try:
                make(connection, domain, hour, _devices(marks), again=True)
            except psycopg.Error:
                if not connection.closed:  # a lost connection says nothing about the hour
                    _rest(domain, hour)
                raise
            return 1
        if settings().rollups and not values["resting"]:
            behind.note(domain, on=True, complete=True)
        return _make_earlier(connection, domain, gone_before)


def _make_earlier(connection: database.Connection, domain: AnyDomain, gone_before: int) -> int | None:
    found = connection.execute(PROGRESS, {"domain": domain.name}).fetchone()
    progress = None if found is None else Progress(*found)  # type: ignore[arg-type]
    if progress is None or progress.complete or not progress.ready:
        return None
    hour: Any = _one(connection, statements.newest_before(domain), {"before": progress.made_from})
    complete = hour is None or hour < gone_before
    if not complete:
        make(connection, domain, hour, None)
    made_from = progress.made_from if complete else hour
    connection.execute(MADE, {"domain": domain.name, "made_from": made_from, "complete": complete})
    if complete:
        log.info("rollups_complete", domain=domain.name)
    return 0 if complete else 1


def make(
    connection: database.Connection,
    domain: AnyDomain,
    hour: int,
    devices: set[tuple[str, str]] | None,
    *,
    again: bool = False,
) -> None:
    """Makes the rollups of an hour, and of its day, from the rows: of all devices, or of these alone.

    With `again` it also removes those that have no rows any longer.
    """
    connection.execute(statements.TEMPORARY)
    users, sources = zip(*sorted(devices), strict=True) if devices else ((), ())
    query = statements.slice_of_hour(domain, named=devices is not None)
    # A few devices are found by the index; their hour is one slice.
    slices = 1 if devices is not None and len(devices) <= FEW_DEVICES else statements.SLICES
    values = {"hour": hour, "slices": slices, "users": list(users), "devices": list(sources)}
    for number in range(slices):
        connection.execute(query, {**values, "slice": number})
    named = {"hour": hour, "day": hour // 24, "domain": domain.name}
    connection.execute(statements.HOURLY, named)
    gone = (
        again
        and connection.execute(
            statements.gone(domain, named=devices is not None), {**values, **named}
        ).rowcount
    )
    connection.execute(statements.DAILY, named)
    if gone:
        connection.execute(statements.GONE_DAYS, named)
    connection.execute("DROP TABLE sluice_rolled")


def _rest(domain: AnyDomain, hour: int) -> None:
    """Leaves an hour that the database has refused to the others for a while."""
    now = time.monotonic()
    for key in [key for key, until in _resting.items() if until < now]:
        del _resting[key]
    _resting[domain.name, hour] = now + REST_SECONDS


def _resting_hours(domain: AnyDomain) -> list[int]:
    now = time.monotonic()
    return [hour for (name, hour), until in _resting.items() if name == domain.name and until > now]


def _alone(connection: database.Connection) -> bool:
    connection.execute(f"SET LOCAL statement_timeout = '{settings().database_statement_timeout_seconds}s'")
    return _one(connection, "SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": LOCK}) is True


def _one(connection: database.Connection, query: Any, values: dict[str, Any]) -> object:
    found = connection.execute(query, values).fetchone()
    assert found is not None
    return found[0]


def _devices(marks: list[tuple[object, ...]]) -> set[tuple[str, str]] | None:
    """The devices that the marks name; None if one says that it may be any."""
    found: set[tuple[str, str]] = set()
    for users, devices in marks:
        if users is None:
            return None
        assert isinstance(users, list)
        assert isinstance(devices, list)
        found |= set(zip(users, devices, strict=True))
    return found
