"""Which dead letters are handled, replayed or acknowledged, and where they went: `replayed_letters`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tasks.dead_letters.letter import LetterId
from tasks.servers import database

FIND = """
SELECT letter_key, record_ms, run_id, to_partition, to_offset
FROM replayed_letters JOIN unnest(%s::text[], %s::bigint[]) AS wanted (letter_key, record_ms)
    USING (letter_key, record_ms)
"""
# A letter is older than what was done about it, but by another clock, which may be off by this hour.
FIND_SINCE = """
SELECT letter_key, record_ms, run_id, to_partition, to_offset FROM replayed_letters
WHERE replayed_at >= %s::timestamptz - interval '1 hour' LIMIT %s
"""
RESERVE = """
INSERT INTO replayed_letters (letter_key, record_ms, run_id)
SELECT letter_key, record_ms, %s FROM unnest(%s::text[], %s::bigint[]) AS wanted (letter_key, record_ms)
ON CONFLICT DO NOTHING RETURNING letter_key, record_ms
"""
ACKNOWLEDGE = """
INSERT INTO replayed_letters (letter_key, record_ms, run_id, to_partition, to_offset)
SELECT letter_key, record_ms, %s, %s, %s
FROM unnest(%s::text[], %s::bigint[]) AS wanted (letter_key, record_ms)
ON CONFLICT DO NOTHING
"""
CONFIRM = """
UPDATE replayed_letters SET replayed_at = now(), to_partition = place.partition, to_offset = place.number
FROM unnest(%s::text[], %s::bigint[], %s::int[], %s::bigint[])
    AS place (letter_key, record_ms, partition, number)
WHERE replayed_letters.letter_key = place.letter_key AND replayed_letters.record_ms = place.record_ms
"""
UNCONFIRMED = "SELECT letter_key, record_ms FROM replayed_letters WHERE run_id = %s AND to_offset IS NULL"
FREE = "DELETE FROM replayed_letters WHERE run_id = %s AND to_offset IS NULL"
OF_RUN = "SELECT to_partition, to_offset FROM replayed_letters WHERE run_id = %s AND to_offset IS NOT NULL"

# One statement asks for this many by their names; for more names, up to MOST_SINCE are read by time instead.
AT_ONCE = 2000
MOST_SINCE = 20_000

Place = tuple[int, int]  # partition and offset in the domain's topic
NOWHERE: Place = (-1, -1)
"""The place of a change of an alert, which is in its table and in no topic."""

ACKNOWLEDGED: Place = (-2, -2)
"""The place of a letter that went nowhere: an operator has seen it, and nothing is to be done."""


class Replayed(NamedTuple):
    """The entry of a replayed or acknowledged letter; without a place it is on its way."""

    run_id: str
    place: Place | None


def find(connection: database.Connection, letters: Iterable[LetterId]) -> dict[LetterId, Replayed]:
    """The letters among these that were replayed or acknowledged."""
    keys, times = _columns(letters)
    return _found(connection.execute(FIND, [keys, times]))


def find_many(
    connection: database.Connection, letters: Sequence[LetterId], since: datetime
) -> dict[LetterId, Replayed]:
    """The same of many letters that were refused at that time or later; it may know of others, too.

    Takes one statement where few letters were handled since then, however many are asked for.
    """
    if len(letters) > AT_ONCE:
        handled = _found(connection.execute(FIND_SINCE, [since, MOST_SINCE]))
        if len(handled) < MOST_SINCE:
            return handled
    found: dict[LetterId, Replayed] = {}
    for start in range(0, len(letters), AT_ONCE):
        found |= find(connection, letters[start : start + AT_ONCE])
    return found


def _found(rows: Iterable[tuple[Any, ...]]) -> dict[LetterId, Replayed]:
    return {
        LetterId(key, record_ms): Replayed(run_id, None if offset is None else (partition, offset))
        for key, record_ms, run_id, partition, offset in rows
    }


def reserve(connection: database.Connection, run_id: str, letters: Iterable[LetterId]) -> set[LetterId]:
    """Takes the letters for this run; returns those that no run had taken before."""
    keys, times = _columns(letters)
    rows = connection.execute(RESERVE, [run_id, keys, times]).fetchall()
    return {LetterId(str(key), int(str(record_ms))) for key, record_ms in rows}


def acknowledge(connection: database.Connection, run_id: str, letters: Iterable[LetterId]) -> int:
    """Notes that nothing is to be done about the letters; returns how many were open before."""
    return connection.execute(ACKNOWLEDGE, [run_id, *ACKNOWLEDGED, *_columns(letters)]).rowcount


def confirm(connection: database.Connection, places: dict[LetterId, Place]) -> None:
    """Notes where reserved letters went."""
    keys, times = _columns(places)
    partitions, offsets = [p for p, _ in places.values()], [o for _, o in places.values()]
    connection.execute(CONFIRM, [keys, times, partitions, offsets])


def unconfirmed(connection: database.Connection, run_id: str) -> set[LetterId]:
    """Letters that the run has taken, but that may not have been produced."""
    rows = connection.execute(UNCONFIRMED, [run_id]).fetchall()
    return {LetterId(str(key), int(str(record_ms))) for key, record_ms in rows}


def free(connection: database.Connection, run_id: str) -> None:
    """Gives back the letters that the run has taken but not produced."""
    connection.execute(FREE, [run_id])


def places(connection: database.Connection, run_id: str) -> list[Place]:
    """Where the run's letters went."""
    return [(int(str(p)), int(str(o))) for p, o in connection.execute(OF_RUN, [run_id])]


def _columns(letters: Iterable[LetterId]) -> tuple[list[str], list[int]]:
    ids = list(letters)
    return [letter.key for letter in ids], [letter.record_ms for letter in ids]
