"""The database connections of `web`: a few, kept open, each query with a limit of its time."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import errors

from ingest.admin import postgres
from ingest.admin.errors import ServerAway
from ingest.admin.postgres import Connection
from ingest.api import shares
from ingest.api.problems import Busy, Refused, TooSlow
from ingest.api.shares import Share
from tasks.servers import database
from tasks.text.wording import application

# A request waits this long for one of the connections.
WAIT_SECONDS = 5.0
# A connection that was not used for longer is not trusted.
IDLE_SECONDS = 60.0
_BEGIN = "SELECT set_config('statement_timeout', %s, true), set_config('TimeZone', 'UTC', true)"


class Connections:
    """At most `most` connections, opened when they are needed. All methods may be called in any thread."""

    def __init__(self, most: int, statement_seconds: float) -> None:
        self._most = most
        self._seconds = statement_seconds
        self._places = threading.BoundedSemaphore(most)
        self._idle: list[tuple[float, Connection]] = []
        self._lock = threading.Lock()
        # Places in use, by caller; the operator's are not counted.
        self._taken = Counter[str]()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only transaction for the block.

        Raises `ServerAway`, `Busy`, `TooSlow`, and `Refused` for values that the database does not take, or
        (429) when the caller has as many as one may have.
        """
        with self._transaction(read_only=True) as connection:
            yield connection

    @contextmanager
    def writing(self, who: str) -> Iterator[Connection]:
        """A transaction for the block, committed at its end; the operators' trail names `who`.

        Raises as `reading` does.
        """
        with self._transaction(read_only=False) as connection:
            connection.execute("SELECT set_config('application_name', %s, true)", [application(who)])
            yield connection

    def close(self) -> None:
        """Ends the connections that are not in use."""
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                self._idle.pop()[1].close()

    @contextmanager
    def _transaction(self, *, read_only: bool) -> Iterator[Connection]:
        with self._place(shares.current()), self._in_transaction(read_only=read_only) as connection:
            yield connection

    @contextmanager
    def _place(self, share: Share) -> Iterator[None]:
        """A place among the caller's, at once: waiting would hold a thread, which others need too."""
        if not share.is_bounded:
            yield
            return
        with self._lock:
            if self._taken[share.name] >= max(1, self._most // 2):
                raise Refused(
                    429,
                    f"{self._taken[share.name]} queries of this user run at the same time, and no more may."
                    " Wait for their answers.",
                    Retry_After="1",
                )
            if self._taken.total() >= max(1, self._most - 1):
                raise Busy(
                    f"All connections to the database but the operator's, {self._taken.total()}, are in use"
                    " (WEB_CONNECTIONS). Try again in a moment."
                )
            self._taken[share.name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[share.name] -= 1
                # Only who has some is remembered.
                self._taken += Counter()

    @contextmanager
    def _in_transaction(self, *, read_only: bool) -> Iterator[Connection]:
        if not self._places.acquire(timeout=WAIT_SECONDS):
            raise Busy(
                f"All {self._most} connections to the database are in use (WEB_CONNECTIONS). Try again, and"
                " ask for less at the same time."
            )
        try:
            with _explained(self._seconds):
                connection = self._begun(read_only=read_only)
                try:
                    yield connection
                    connection.commit()
                finally:
                    self._give_back(connection)
        finally:
            self._places.release()

    def _begun(self, *, read_only: bool) -> Connection:
        """A connection in a transaction; an idle connection that has ended is replaced.

        One that a silent server keeps open takes the whole patience: the others to it are not tried.
        """
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                since, connection = self._idle.pop()
                if time.monotonic() - since < IDLE_SECONDS:
                    try:
                        self._begin(connection, read_only=read_only)
                    except psycopg.OperationalError:
                        self.close()
                    else:
                        return connection
                connection.close()
        connection = postgres.connect(patience_seconds=self._seconds + database.SILENCE_SECONDS)
        connection.autocommit = False
        try:
            self._begin(connection, read_only=read_only)
        except psycopg.Error:
            connection.close()
            raise
        return connection

    def _begin(self, connection: Connection, *, read_only: bool) -> None:
        connection.read_only = read_only
        connection.execute(_BEGIN, [str(round(self._seconds * 1000))])

    def _give_back(self, connection: Connection) -> None:
        with suppress(psycopg.Error):
            connection.rollback()
        if connection.closed or connection.broken:
            connection.close()
        else:
            self._idle.append((time.monotonic(), connection))


@contextmanager
def _explained(seconds: float) -> Iterator[None]:
    try:
        yield
    except (errors.QueryCanceled, errors.LockNotAvailable) as error:
        raise TooSlow(seconds) from error
    except (errors.UndefinedTable, errors.UndefinedColumn) as error:
        raise ServerAway(
            f"The database lacks what this needs ({error.diag.message_primary}). Run `sluice migrate` first."
        ) from error
    except errors.InsufficientPrivilege as error:
        raise ServerAway(
            f"The role of `web` is not allowed to do this: {error.diag.message_primary}. `sluice roles` gives"
            " the role sluice_web its rights."
        ) from error
    except psycopg.Error as error:
        if database.refuses_data(error):
            raise Refused(422, f"The database refuses: {error.diag.message_primary or error}.") from error
        raise ServerAway(
            f"The connection to the database was lost: {' '.join(str(error).split())}. Try again."
        ) from error
