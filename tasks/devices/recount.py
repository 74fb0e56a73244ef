"""Counts the readings of the last days again from the tables of the domains, after some activity was lost."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import LiteralString

import psycopg
import structlog
from psycopg import sql

from tasks import registry
from tasks.devices import tables
from tasks.devices.tables import Counted
from tasks.domain.domain import AnyDomain
from tasks.servers import database
from tasks.servers.turns import Turn

log = structlog.get_logger()

# The first count goes as far back as a rule may wait; a later one as far as activity can have been lost.
FIRST_DAYS, LATER_DAYS = 31, 2
HOUR = timedelta(hours=1)
# Of the statement for an hour: well within a turn.
MOST_SECONDS = 5

# Hour by hour, so that each statement is short and touches one chunk.
COUNT: LiteralString = """
SELECT {owner} AS user_id, {prefix} || {source} AS device_id, count(*), min({time}), max({time})
FROM {table} WHERE {time} >= %(begin)s AND {time} < %(end)s GROUP BY 1, 2
"""
ANY = "SELECT FROM devices WHERE domain = %s LIMIT 1"

Key = tuple[str, str]


def recount(turn: Turn) -> Iterator[date]:
    """Counts every domain, day by day, today first; yields each day after it is in the tables.

    A count that is greater already stays. Raises `psycopg.Error`, `redis.RedisError`, `TurnLost`.
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    domains = registry.domains()
    with database.access() as connection:
        known = {one.name for one in domains if connection.execute(ANY, [one.name]).fetchone() is not None}
    days = LATER_DAYS if len(known) == len(domains) else FIRST_DAYS
    for back in range(days):
        begin = today - timedelta(days=back)
        for domain in domains:
            if back < LATER_DAYS or domain.name not in known:
                found = _count_day(domain, begin, turn)
                with database.access() as connection, connection.transaction():
                    tables.add_counted(connection, domain.name, begin.date(), found)
        yield begin.date()
    log.info("devices_counted_again", domains=[one.name for one in domains])


def _count_day(domain: AnyDomain, begin: datetime, turn: Turn) -> dict[Key, Counted]:
    found: dict[Key, Counted] = {}
    for hour in range(24):
        turn.keep()
        start = begin + hour * HOUR
        for user_id, device_id, count, first, last in _count_hour(domain, start):
            key = (str(user_id), str(device_id))
            assert isinstance(first, datetime)
            assert isinstance(last, datetime)
            old = found.get(key)
            before, earliest = (0, first) if old is None else (old.messages, old.first)
            found[key] = Counted(before + int(str(count)), earliest, last)
    return found


def _count_hour(domain: AnyDomain, begin: datetime) -> list[tuple[object, ...]]:
    with database.access() as connection:
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL statement_timeout = '{MOST_SECONDS}s'")
                return connection.execute(query(domain), {"begin": begin, "end": begin + HOUR}).fetchall()
        except psycopg.errors.QueryCanceled as error:
            # Another attempt would take as long, and the pipeline needs the database.
            log.warning("devices_hour_not_counted", domain=domain.name, begin=begin, error=str(error).strip())
            return []


def query(domain: AnyDomain) -> sql.Composed:
    """The statement that counts the rows of a domain from `begin` up to `end`, by their own time."""
    # A domain with a fixed owner has no column for it.
    owner = sql.Identifier(domain.owner) if domain.owner else sql.Literal(domain.user_id)
    return sql.SQL(COUNT).format(
        owner=owner,
        prefix=sql.Literal(domain.prefix),
        source=sql.Identifier(domain.source),
        time=sql.Identifier(domain.time),
        table=sql.Identifier(domain.table),
    )
