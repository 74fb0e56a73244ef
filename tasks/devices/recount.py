"""Counts the readings of the last days again from the tables of the domains, after some activity was lost."""

from datetime import UTC, date, datetime, timedelta
from typing import LiteralString, NamedTuple

import psycopg
import structlog
from psycopg import sql

from tasks import registry
from tasks.devices import tables
from tasks.devices.activity import DAY_MS
from tasks.devices.tables import Counted
from tasks.domain.domain import AnyDomain
from tasks.observe.metrics.worker import DEVICES_COUNTED_AGAIN
from tasks.servers import database
from tasks.servers.table_names import names
from tasks.servers.turns import Turn

log = structlog.get_logger()

# The first count goes as far back as a rule may wait; a later one as far as activity can have been lost, and
# from the day before.
FIRST_DAYS, LATER_DAYS = 31, 2
HOUR = timedelta(hours=1)
# The limit of the statement for an hour: well within a turn.
MOST_SECONDS = 5

# Hour by hour, so that each statement is short and touches one chunk.
COUNT: LiteralString = """
SELECT {owner} AS user_id, {prefix} || {source} AS device_id, count(*), min({time}), max({time})
FROM {table} WHERE {time} >= %(begin)s AND {time} < %(end)s GROUP BY 1, 2
"""

Key = tuple[str, str]


class Progress(NamedTuple):
    """How far a domain has been counted: `done` of `days` days, back from `today` (ISO 8601, UTC)."""

    today: str
    days: int
    done: int


def begin(turn: Turn, since_ms: int) -> None:
    """Has the days counted again in which activity can have been lost, and those that were still to count.

    `since_ms` (since 1970) is the time up to which all activity has been added. Raises `psycopg.Error`,
    `redis.RedisError`, `TurnLost`.
    """
    turn.keep()
    now = datetime.now(UTC)
    lost_days = int(now.timestamp() * 1000 - since_ms) // DAY_MS
    with database.access() as connection, connection.transaction():
        for domain in registry.domains():
            before = _progress(connection, domain)
            progress = after_loss(before, now.date(), lost_days)
            tables.set_position(connection, _source(domain), before, progress)


def after_loss(before: Progress | None, today: date, lost_days: int) -> Progress:
    """The count that begins now, after `before` (None: never), with activity lost since that many days."""
    if before is None:
        return Progress(today.isoformat(), FIRST_DAYS, 0)
    unfinished = before.days if before.done < before.days else 0
    days = min(max(LATER_DAYS + lost_days, unfinished), FIRST_DAYS)
    return Progress(today.isoformat(), days, 0)


def step(turn: Turn) -> bool:
    """Counts the next day of a domain, today of all domains first; returns False if all are counted.

    A count that is greater already stays. Raises `psycopg.Error`, `redis.RedisError`, `TurnLost`.
    """
    with database.access() as connection:
        found = [(domain, _progress(connection, domain)) for domain in registry.domains()]
    due = [(domain, one) for domain, one in found if one is not None and one.done < one.days]
    if not due:
        return False
    domain, progress = min(due, key=lambda one: one[1].done)
    day = date.fromisoformat(progress.today) - timedelta(days=progress.done)
    counted = _count_day(domain, day, turn)
    reached = progress._replace(done=progress.done + 1)
    with database.access() as connection, connection.transaction():
        tables.add_counted(connection, domain.name, day, counted)
        tables.set_position(connection, _source(domain), progress, reached)
    if reached.done == reached.days:
        log.info("devices_counted_again", domain=domain.name, days=reached.days)
        DEVICES_COUNTED_AGAIN.add(1)
    return True


def moved_within(seconds: int) -> bool:
    """Whether a count began or went on in the last seconds. Raises `psycopg.Error`."""
    with database.access() as connection:
        return any(tables.moved(connection, _source(domain), seconds) for domain in registry.domains())


def missing() -> bool:
    """Whether a domain has never been counted. Raises `psycopg.Error`."""
    with database.access() as connection:
        return any(_progress(connection, domain) is None for domain in registry.domains())


def _source(domain: AnyDomain) -> str:
    return f"rows/{domain.name}"


def _progress(connection: database.Connection, domain: AnyDomain) -> Progress | None:
    found = tables.position(connection, _source(domain))
    return None if found is None else Progress(*found)


def _count_day(domain: AnyDomain, day: date, turn: Turn) -> dict[Key, Counted]:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    found: dict[Key, Counted] = {}
    # The latest hour first: it is the hour that grows, and its present count was flushed a moment ago.
    for hour in reversed(range(24)):
        turn.keep()
        for user_id, device_id, count, first, last in _count_hour(domain, midnight + hour * HOUR):
            key = (str(user_id), str(device_id))
            assert isinstance(first, datetime)
            assert isinstance(last, datetime)
            old = found.get(key)
            after, latest = (0, last) if old is None else (old.messages, old.last)
            found[key] = Counted(after + int(str(count)), first, latest)
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
    return sql.SQL(COUNT).format(prefix=sql.Literal(domain.prefix), **names(domain))
