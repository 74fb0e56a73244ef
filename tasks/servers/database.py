"""This process's database connection, behind the circuit breaker, and what the database's errors mean."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tasks.servers.breaker import Breaker, Meaning
from tasks.settings import settings

# The server ends a statement when its time is over; a server silent for this much longer is away.
SILENCE_SECONDS = 5.0
# Sent data must reach the other host's kernel within this time.
DELIVERY_SECONDS = 15
# A host, or a network, that falls silent is noticed by them.
_KEEPALIVES: Mapping[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": DELIVERY_SECONDS * 1000,
}
DEFAULT_PORT = 5432
# How long PgBouncer needs to try the server again, which the first client triggers.
POOLER_PAUSE_SECONDS = 0.5

Result = TypeVar("Result")
Connection = psycopg.Connection[tuple[object, ...]]


def silence_seconds() -> float:
    """A server that does not answer a statement for so long is away."""
    return settings().database_statement_timeout_seconds + SILENCE_SECONDS


class _Bounded(Connection):
    """A connection that breaks off when the server, or the network, falls silent."""

    patience_seconds: float | None = None  # by default a little more than a statement may take

    def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:
        """As in the base class, but with a time limit. Raises `psycopg.OperationalError`."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)  # for notifications, which need not come
        patience = self.patience_seconds or silence_seconds()
        try:
            return super().wait(gen, interval, patience)
        except psycopg.errors._WaitTimeout as error:
            # The connection cannot be used any more, not even for a rollback.
            self.close()
            raise psycopg.OperationalError(f"no answer within {patience:.0f} s") from error


class InvalidUrl(psycopg.OperationalError):
    """A setting is not a PostgreSQL URL. The text does not repeat it."""


def connect_directly(url: str, application_name: str, patience_seconds: float | None = None) -> Connection:
    """A connection in autocommit mode, not behind the circuit breaker.

    With `patience_seconds` it breaks off when the server is silent that long.

    Raises `InvalidUrl`, and `psycopg.OperationalError` when the server does not let us in.
    """
    kind: type[Connection] = psycopg.Connection if patience_seconds is None else _Bounded
    try:
        connection = kind.connect(
            conninfo(url),
            autocommit=True,
            connect_timeout=settings().database_connect_timeout_seconds,
            # PgBouncer in transaction mode does not keep prepared statements.
            prepare_threshold=None,
            application_name=application_name,
            **_KEEPALIVES,
        )
    except psycopg.ProgrammingError:
        # psycopg's own text repeats the URL, and with it the password.
        raise InvalidUrl(
            "DATABASE_URL is not a valid PostgreSQL URL, as in postgresql://user:password@host:5432/database."
        ) from None
    if isinstance(connection, _Bounded):
        connection.patience_seconds = patience_seconds
    return connection


def conninfo(url: str) -> str:
    """The URL, with the settings' certificates, by which the server is verified.

    Raises `psycopg.ProgrammingError` for what is not a PostgreSQL URL.
    """
    ca_file = settings().tls_ca_file
    if ca_file is None:
        return url
    given = conninfo_to_dict(url)
    return make_conninfo(
        url,
        sslmode=given.get("sslmode") or "verify-full",
        sslrootcert=given.get("sslrootcert") or str(ca_file),
    )


def places(url: str) -> list[tuple[str, int]]:
    """Host and port of each server that the URL names; without a host it is a socket of this machine.

    Raises `psycopg.ProgrammingError` for what is not a PostgreSQL URL.
    """
    given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    hosts, ports = given.get("host", "").split(","), given.get("port", "").split(",")
    return [
        (host, int(ports[min(number, len(ports) - 1)] or DEFAULT_PORT)) for number, host in enumerate(hosts)
    ]


@lru_cache
def _opened() -> _Bounded:
    """A connection to the server itself, not only to PgBouncer."""
    try:
        return _connect()
    except psycopg.OperationalError as error:
        # After an outage, PgBouncer answers the first client as if the server were still away.
        if "server_login_retry" not in str(error):
            raise
    time.sleep(POOLER_PAUSE_SECONDS)
    return _connect()


def _connect() -> _Bounded:
    """Connects without prepared statements and session settings, which PgBouncer does not keep."""
    chosen = settings()
    connection = _Bounded.connect(
        conninfo(chosen.database_url.get_secret_value()),
        autocommit=True,
        connect_timeout=chosen.database_connect_timeout_seconds,
        prepare_threshold=None,
        application_name="sluice-worker",
        **_KEEPALIVES,
    )
    try:
        connection.execute("SELECT")
    except psycopg.Error:
        connection.close()
        raise
    return connection


@lru_cache
def breaker() -> Breaker:
    """The circuit breaker of the database: each access of a worker goes through it."""
    return Breaker("database", _meaning_of)


@contextmanager
def access() -> Iterator[Connection]:
    """The connection for the block, opened if there is none that works.

    Raises `breaker.CircuitOpen` without trying while the database is left alone, and `psycopg.Error`; after
    an error the next access opens a new connection. Do not nest it, nor wait for anything else inside.
    """
    with breaker():
        try:
            yield _connection()
        except psycopg.Error as error:
            if not refuses_data(error):
                close()
            raise


def _connection() -> Connection:
    if _opened.cache_info().currsize and _opened().closed:
        _opened.cache_clear()
    return _opened()


def close() -> None:
    """Drops the connection; the next access opens a new one."""
    if _opened.cache_info().currsize:
        _opened().close()
        _opened.cache_clear()


def refuses_data(error: psycopg.Error) -> bool:
    """Whether the database refuses what it was given (SQLSTATE classes 22 and 23).

    Anything else counts as *not now*: a wrong guess in this direction costs a wait, in the other direction it
    would send good messages to the dead letters.
    """
    return (error.sqlstate or "")[:2] in {"22", "23"}


def lacks_column(error: psycopg.Error) -> bool:
    """Whether the table, or a column of it, does not exist: the next migration creates it."""
    return error.sqlstate in {"42703", "42P01"}


def is_too_much(error: psycopg.Error) -> bool:
    """Whether the server had no memory or locks left for the statement: half as many rows may pass."""
    return error.sqlstate in {"53200", "54000"}


def may_be_repeatable(error: psycopg.Error) -> bool:
    """Whether only this statement may be at fault: its time was over, or it was too much.

    Half of it may pass; a single row that cannot be halved is tried again, in case it was chance.
    """
    return is_too_much(error) or error.sqlstate == "57014" or waits_for_lock(error)


def waits_for_lock(error: psycopg.Error) -> bool:
    """Whether the statement waited too long for a lock of another transaction."""
    return error.sqlstate == "55P03"


def is_away(error: psycopg.Error) -> bool:
    """Whether the server itself failed, not a statement: no connection, no answer in time, out of resources,
    shutting down, broken, or read-only. https://www.postgresql.org/docs/17/errcodes-appendix.html
    """
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if is_too_much(error):
        return False
    return error.sqlstate[:2] in {"08", "53", "57", "58", "XX"} or error.sqlstate == "25006"


def _meaning_of(error: BaseException) -> Meaning:
    if not isinstance(error, psycopg.Error):
        return "unknown"
    return "failed" if is_away(error) else "answered"
