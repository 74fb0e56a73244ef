"""Writes entries of the outbox to the tables: together, or in halves to isolate what the database refuses.

An item that the database refuses, or that fails again and again while others pass, becomes a dead letter; so
do alerts that were refused because their user has too many.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

import psycopg
import structlog

from tasks.channels import wake
from tasks.dead_letters import about_alerts
from tasks.errors import DatabaseAway, DeadLettersUnconfirmed
from tasks.outbox import failing, tables
from tasks.outbox.entry import Entry
from tasks.outbox.failing import Failure
from tasks.rules.change import notice
from tasks.servers import database
from tasks.servers.turns import Turn

log = structlog.get_logger()

TRANSACTION_BYTES = 1_048_576
# How often an item must fail alone, while the database takes others, before it is given up.
ATTEMPTS = 3
LEAST_SECONDS = 1.0

_MALFORMED = (KeyError, TypeError, AttributeError)


def write(entries: list[Entry], turn: Turn) -> list[Entry]:
    """Writes the entries in their order and returns those that are in the tables, or dead letters.

    If an entry of a user is neither, that user's later ones are left, too. Raises `DatabaseAway`, `TurnLost`
    and `redis.RedisError`.
    """
    return _Writing(turn).write(entries)


class _Writing:
    """One delivery: which users are held up, and which entries are not written."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._failures = failing.known()
        self._held: set[str] = set()
        self._left: set[str] = set()
        self._told = False

    def write(self, entries: list[Entry]) -> list[Entry]:
        healthy = [entry for entry in entries if entry.user not in self._failures]
        for some in _by_bytes(healthy):
            self._write(some, tables.STATEMENT_SECONDS)
        # After all others: each may take as long as a statement may.
        for user, failure in list(self._failures.items()):
            own = [entry for entry in entries if entry.user == user]
            if own and user not in self._held:
                self._write_failing(user, own, failure)
        if self._told:
            wake.wake()
        # Last: while the database is away they must not be sent again at each try.
        self._send_refused([entry for entry in entries if entry.id not in self._left])
        return [entry for entry in entries if entry.id not in self._left]

    def _write_failing(self, user: str, entries: list[Entry], failure: Failure) -> None:
        if not failure.is_due:
            self._left.update(entry.id for entry in entries)
            return
        for piece in _around(entries, failure.item):
            self._write([piece], tables.STATEMENT_SECONDS)
        if user not in self._held:
            failing.forget(user)
            self._failures.pop(user, None)

    def _send_refused(self, entries: list[Entry]) -> None:
        """Sends the refused alerts as dead letters; keeps entries of users if unconfirmed."""
        letters: list[tuple[str, str, bytes]] = []
        for entry in entries:
            # Malformed entries are found when they are written.
            with suppress(*_MALFORMED):
                letters += [
                    (entry.user, entry.document["device_id"], notice(change["record"]))
                    for change in entry.changes(refused=True)
                ]
        if not letters:
            return
        try:
            about_alerts.send_too_many_alerts(letters)
        except DeadLettersUnconfirmed as unconfirmed:
            log.warning("refused_alerts_wait", error=str(unconfirmed))
            waiting = {user_id for user_id, _, _ in letters}
            self._left.update(entry.id for entry in entries if entry.user in waiting)

    def _write(self, pieces: list[Entry], seconds: float) -> None:
        self._left.update(piece.id for piece in pieces if piece.user in self._held)
        pieces = [piece for piece in pieces if piece.user not in self._held]
        if not pieces:
            return
        error = self._try(pieces, seconds)
        if error is None:
            return
        halves = _halves(pieces)
        if not halves:
            self._fail(pieces[0], error)
        if not _is_refusal(error):
            # Half as much should take half as long, and others wait meanwhile.
            seconds = max(LEAST_SECONDS, seconds / 2)
        for half in halves:
            self._write(half, seconds)

    def _try(self, pieces: list[Entry], seconds: float) -> Exception | None:
        """Writes the pieces; returns an error that they themselves cause. Raises `DatabaseAway`."""
        try:
            with database.access() as connection:
                try:
                    self._told |= tables.write(
                        connection, pieces, self._turn.keep, seconds, self._turn.memory
                    )
                except psycopg.Error as error:
                    # The breaker must not count this: the server itself has not failed.
                    if database.refuses_data(error) or database.may_be_repeatable(error):
                        return error
                    raise
                except _MALFORMED as error:
                    return error
        except psycopg.Error as error:
            raise DatabaseAway(str(error).strip()) from error
        return None

    def _fail(self, piece: Entry, error: Exception) -> None:
        """Handles the failure of a single item."""
        if _is_refusal(error):
            self._give_up(piece, error)
            return
        try:
            with database.access() as connection:
                tables.probe(connection)
        except psycopg.Error as other:
            raise DatabaseAway(str(other).strip()) from other
        item = piece.digest()
        before = self._failures.get(piece.user)
        failure = self._failures[piece.user] = failing.note(piece.user, item, before)
        log.warning("alert_change_fails", user_id=piece.user, attempt=failure.times, error=_reason(error))
        # An item that waits for a lock is not to blame.
        if failure.times >= ATTEMPTS and not _waits_for_lock(error):
            self._give_up(piece, error)
        else:
            self._hold(piece)

    def _give_up(self, piece: Entry, error: Exception) -> None:
        try:
            about_alerts.send_alert_change(piece.user, piece.device, piece.to_json(), _reason(error))
        except DeadLettersUnconfirmed as unconfirmed:
            log.warning("alert_change_waits", user_id=piece.user, error=str(unconfirmed))
            self._hold(piece)
            return
        if not isinstance(error, _MALFORMED):
            failing.give_up(piece.digest())

    def _hold(self, piece: Entry) -> None:
        self._held.add(piece.user)
        self._left.add(piece.id)


def _by_bytes(entries: list[Entry]) -> Iterator[list[Entry]]:
    some: list[Entry] = []
    size = 0
    for piece in _pieces(entries):
        if some and size + piece.size > TRANSACTION_BYTES:
            yield some
            some, size = [], 0
        some.append(piece)
        size += piece.size
    if some:
        yield some


def _pieces(entries: Iterable[Entry]) -> Iterator[Entry]:
    for entry in entries:
        try:
            yield from entry.pieces()
        except _MALFORMED:
            yield entry


def _around(entries: list[Entry], item: str) -> Iterator[Entry]:
    """The entries split around an item, which stands alone."""
    for entry in entries:
        try:
            singles = [entry.of([one]) for one in entry.items()]
        except _MALFORMED:
            yield entry
            continue
        names = [single.digest() for single in singles]
        gone = failing.given_up(names)
        together: list[Entry] = []
        for name, single in zip(names, singles, strict=True):
            if name in gone:
                continue
            if name == item:
                yield from _joined(entry, together)
                yield single
                together = []
            else:
                together.append(single)
        yield from _joined(entry, together)


def _joined(entry: Entry, singles: list[Entry]) -> Iterator[Entry]:
    if singles:
        yield from entry.of([one for single in singles for one in single.items()]).pieces()


def _halves(pieces: list[Entry]) -> list[list[Entry]]:
    middle = len(pieces) // 2
    if middle:
        return [pieces[:middle], pieces[middle:]]
    try:
        items = pieces[0].items()
    except _MALFORMED:
        return []
    middle = len(items) // 2
    return [[pieces[0].of(items[:middle])], [pieces[0].of(items[middle:])]] if middle else []


def _waits_for_lock(error: Exception) -> bool:
    return isinstance(error, psycopg.Error) and database.waits_for_lock(error)


def _is_refusal(error: Exception) -> bool:
    return not isinstance(error, psycopg.Error) or database.refuses_data(error)


def _reason(error: Exception) -> str:
    if isinstance(error, psycopg.Error):
        return f"{error.diag.message_primary or error} (SQLSTATE {error.sqlstate})"
    return f"{type(error).__name__}: {error}"
