"""Conservation: every committed record of a domain's topic is a row or a dead letter, or it is missing.

Rows carry no offsets. So each record is validated once more to know its primary key, and the keys are looked
up in the table, chunk by chunk. A row with other values than the record's is another record's.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.postgres import Connection, session
from ingest.partitions.assignment import unpack
from tasks import registry
from tasks.batch.kafka_record import message_of, readable
from tasks.batch.messages import Message
from tasks.dead_letters.index import Letters, letters_of
from tasks.domain import routing
from tasks.domain.declaration import EPOCH, Reading
from tasks.domain.domain import AnyDomain
from tasks.domain.payload import Refused
from tasks.errors import NotNow
from tasks.rows import conflicts
from tasks.rows.validate import read
from tasks.servers import database
from tasks.servers.topic_reader import Range, TopicReader, chunks
from tasks.settings import settings

CHUNK_MESSAGES = 5000
CHUNK_BYTES = 16_777_216
# At most this many missing messages are named; all are counted.
MOST_NAMED = 1000

Progress = Callable[[int, int], None]


class Missing(NamedTuple):
    """A committed record with neither a row nor a dead letter."""

    partition: int
    offset: int
    topic: str
    sequence_id: int | None
    time: str | None
    reason: str


class Skipped(NamedTuple):
    """Records that Kafka dropped by its retention before the bridge had read them: they are lost."""

    partition: int
    first: int
    last: int


@dataclass
class Balance:
    """The outcomes of the records.

    `received` is the sum of `rows`, `dead_lettered`, `expired`, `missing` and `ignored`.
    """

    received: int = 0
    rows: int = 0  # whose row is there, also where several records are one row
    dead_lettered: int = 0  # that have a dead letter, and not all of their rows
    recovered: int = 0  # of those in `rows`, that had a dead letter before
    expired: int = 0  # without a row, and older than rows are kept
    missing: int = 0
    ignored: int = 0  # that hold no reading
    partly: int = 0  # of those in `dead_lettered`, some of whose readings are rows
    readings: int = 0  # of all records, with the refused ones; a record that is refused whole is one
    in_flight: int = 0  # in Kafka and not yet committed by the bridge
    named: list[Missing] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)  # not in `received`

    def as_json(self) -> dict[str, Any]:
        """For machines; the first thousand missing records are named."""
        counts = asdict(self)
        del counts["named"]
        counts["skipped"] = [skipped._asdict() for skipped in self.skipped]
        return {**counts, "missing_messages": [missing._asdict() for missing in self.named]}


class _Wanted(NamedTuple):
    message: Message
    key: tuple[Any, ...]  # of its row
    time: datetime
    line: bytes  # its row, as COPY takes it


def verify(domain: AnyDomain, since: datetime | None, progress: Progress) -> Balance:
    """Compares Kafka, up to what the bridge has committed, with the rows and the dead letters.

    `progress` gets the number of records done, and their total. Takes about 100 bytes of memory for each dead
    letter, and one chunk. Raises `OperatorError`.
    """
    topic = registry.kafka_topic(domain)
    try:
        with TopicReader() as reader, session() as connection:
            there, committed = reader.ranges(topic), reader.committed(topic)
            starts = (
                {number: low for number, (low, _) in there.items()}
                if since is None
                else reader.offsets_at(topic, int(since.timestamp() * 1000))
            )
            ranges = {
                number: (max(low, starts[number]), min(end, max(committed[number], low)))
                for number, (low, end) in there.items()
            }
            balance = Balance(in_flight=sum(end - max(committed[n], low) for n, (low, end) in there.items()))
            balance.skipped = _skipped(reader.marks(topic), there, since)
            ranges = {n: reach for n, reach in ranges.items() if reach[0] < reach[1]}
            _count(reader, connection, domain, ranges, balance, progress)
    except NotNow as error:
        raise ServerAway(
            f"Kafka at {settings().kafka_bootstrap_servers} does not answer: {error}."
            " Check KAFKA_BOOTSTRAP_SERVERS and that the server runs."
        ) from error
    return balance


def _skipped(
    marks: dict[int, tuple[int, str]], there: dict[int, Range], since: datetime | None
) -> list[Skipped]:
    """The gaps that the bridge has noticed since `since`, and those that it will notice when it runs next."""
    begin = int(since.timestamp()) if since else 0
    found: list[Skipped] = []
    for number, (committed, metadata) in sorted(marks.items()):
        low = there[number][0]
        found += [Skipped(number, first, last) for first, last, at in unpack(metadata).skipped if at >= begin]
        if 0 <= committed < low:
            found.append(Skipped(number, committed, low - 1))
    return found


def _count(
    reader: TopicReader,
    connection: Connection,
    domain: AnyDomain,
    ranges: dict[int, Range],
    balance: Balance,
    progress: Progress,
) -> None:
    total = sum(end - start for start, end in ranges.values())
    passed = 0
    progress(passed, total)
    letters = letters_of(reader, domain, ranges)
    for number, reach in sorted(ranges.items()):
        records = reader.records(registry.kafka_topic(domain), {number: reach})
        for chunk in chunks(records, CHUNK_MESSAGES, CHUNK_BYTES):
            messages = [message_of(record) for record in chunk]
            _account(connection, domain, messages, letters[number].letters, balance)
            progress(passed + messages[-1].offset + 1 - reach[0], total)
        passed += reach[1] - reach[0]
        progress(passed, total)


def _account(
    connection: Connection, domain: AnyDomain, messages: list[Message], letters: Letters, balance: Balance
) -> None:
    limits = routing.limits()
    balance.received += len(messages)
    wanted: list[_Wanted] = []
    fates = {message.offset: _Fate(message) for message in messages}
    for message in messages:
        fate = fates[message.offset]
        try:
            outcome = read(domain, message, limits)
        except Refused as refused:
            fate.refused = refused
            continue
        fate.refused, fate.wrong = outcome.refused, len(outcome.wrong)
        wanted += [
            _Wanted(message, _key(domain, message, reading), reading.time, reading.copy_line)
            for _, reading in outcome.readings
        ]
    there = _rows(connection, domain, wanted)
    others = _of_others(connection, domain, [one for one in wanted if one.key in there])
    oldest = _oldest_kept(domain)
    for one in wanted:
        fate = fates[one.message.offset]
        if one.key in there and one.line not in others:
            fate.stored += 1
        elif one.key in there:
            fate.lacking.append((one.key, "its key is stored with other values, and it has no dead letter"))
        elif oldest is not None and one.time < oldest:
            fate.expired += 1
        else:
            fate.lacking.append((one.key, "no row and no dead letter"))
    for fate in fates.values():
        _add(balance, domain, fate, has_letter=fate.message in letters)


@dataclass
class _Fate:
    """The fate of a message."""

    message: Message
    refused: Refused | None = None
    wrong: int = 1  # of its readings, if any are refused
    stored: int = 0
    expired: int = 0
    lacking: list[tuple[tuple[Any, ...], str]] = field(
        default_factory=list
    )  # the keys without a row, and why


def _add(balance: Balance, domain: AnyDomain, fate: _Fate, *, has_letter: bool) -> None:
    wrong = 0 if fate.refused is None else fate.wrong
    balance.readings += fate.stored + fate.expired + len(fate.lacking) + wrong
    if fate.refused is not None and not has_letter:
        why = f"refused, but it has no dead letter: {fate.refused}"
        _miss(balance, domain, fate.message, None, why)
    elif has_letter and (fate.refused is not None or fate.lacking or fate.expired):
        balance.dead_lettered += 1
        balance.partly += fate.stored > 0
    elif fate.lacking:
        _miss(balance, domain, fate.message, *fate.lacking[0])
    elif fate.stored:
        balance.rows += 1
        balance.recovered += has_letter
    elif fate.expired:
        balance.expired += 1
    else:
        balance.ignored += 1


def _key(domain: AnyDomain, message: Message, reading: Reading[Any, Any]) -> tuple[Any, ...]:
    whole = domain.whole(message.topic, reading)
    return tuple(getattr(whole, name) for name in domain.primary_key)


def _rows(connection: Connection, domain: AnyDomain, wanted: Iterable[_Wanted]) -> set[tuple[Any, ...]]:
    """The keys that the table has. Day by day, so that no statement touches more than a chunk or two."""
    by_day: dict[int, list[_Wanted]] = {}
    for one in wanted:
        by_day.setdefault((one.time - EPOCH).days, []).append(one)
    found: set[tuple[Any, ...]] = set()
    with connection.transaction(), connection.cursor() as cursor:
        # The planner knows nothing of the keys that it is given, and must not read a whole chunk for them.
        cursor.execute("SET LOCAL enable_hashjoin = off")
        cursor.execute("SET LOCAL enable_mergejoin = off")
        cursor.execute("SET LOCAL TimeZone = 'UTC'")
        for some in by_day.values():
            times = [one.time for one in some]
            columns = [list(column) for column in zip(*(one.key for one in some), strict=True)]
            try:
                cursor.execute(_query(domain), [*columns, min(times), max(times)])
            except psycopg.DataError as error:
                raise OperatorError(f"The table could not be queried for a reading: {error}.") from error
            found.update(cursor.fetchall())
    return found


def _of_others(connection: Connection, domain: AnyDomain, wanted: list[_Wanted]) -> set[bytes]:
    """The lines whose row is another reading's. A reading that the database refuses has no row."""
    if not wanted:
        return set()
    lines = [one.line for one in wanted]
    try:
        with connection.transaction(), connection.cursor() as cursor:
            conflicts.stage(cursor, domain, lines)
            return {lines[one.number] for one in conflicts.find(cursor, domain, lines)}
    except psycopg.Error as error:
        if not database.refuses_data(error):
            raise
    if len(wanted) == 1:
        return set(lines)
    middle = len(wanted) // 2
    halves = wanted[:middle], wanted[middle:]
    return set().union(*(_of_others(connection, domain, half) for half in halves))


@lru_cache
def _query(domain: AnyDomain) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, domain.primary_key))
    types = domain.sql_types
    arrays = sql.SQL(", ").join(
        sql.SQL("%s::{}[]").format(sql.SQL(types[name])) for name in domain.primary_key
    )
    return sql.SQL(
        "SELECT {wanted} FROM (SELECT DISTINCT * FROM unnest({arrays}) AS keys ({names})) AS wanted"
        " JOIN {table} AS stored USING ({names}) WHERE stored.{time} BETWEEN %s AND %s"
    ).format(
        wanted=sql.SQL(", ").join(sql.Identifier("wanted", name) for name in domain.primary_key),
        arrays=arrays,
        names=names,
        time=sql.Identifier(domain.time),
        table=sql.Identifier(domain.table),
    )


def _oldest_kept(domain: AnyDomain) -> datetime | None:
    days = settings().retention_days_in(domain.name)
    # Retention drops whole days, up to a day late; a row that disappears earlier is missing.
    return datetime.now(UTC) - timedelta(days=days) if days else None


def _miss(
    balance: Balance, domain: AnyDomain, message: Message, key: tuple[Any, ...] | None, reason: str
) -> None:
    balance.missing += 1
    if len(balance.named) < MOST_NAMED:
        own = dict(zip(domain.primary_key, key, strict=True)) if key else {}
        time = own.get(domain.time)
        balance.named.append(
            Missing(
                message.partition,
                message.offset,
                readable(message.topic),
                own.get("sequence_id"),
                time.isoformat() if isinstance(time, datetime) else None,
                reason,
            )
        )
