"""This process's database connection, and which of the database's errors mean *not now*."""

from functools import lru_cache

import psycopg
import structlog

from tasks.settings import settings

log = structlog.get_logger()

Connection = psycopg.Connection[tuple[object, ...]]


@lru_cache
def _opened() -> Connection:
    """No prepared statements and no session settings: PgBouncer in transaction mode keeps neither."""
    chosen = settings()
    return psycopg.connect(
        chosen.database_url.get_secret_value(),
        autocommit=True,
        connect_timeout=chosen.database_connect_timeout_seconds,
        prepare_threshold=None,
        application_name="sluice-worker",
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
    )


def connection() -> Connection:
    """The connection, opened when there is none that works. Raises `psycopg.OperationalError`."""
    if _opened.cache_info().currsize and _opened().closed:
        _opened.cache_clear()
    return _opened()


def close() -> None:
    """Drops the connection, so that the next use opens a new one."""
    if _opened.cache_info().currsize:
        _opened().close()
        _opened.cache_clear()


def refuses_data(error: psycopg.Error) -> bool:
    """Whether the database refuses what it was given (SQLSTATE classes 22 and 23).

    Anything else is taken as *not now*: a wrong guess in this direction costs a wait, in the other
    direction it would send good messages to the dead letters.
    """
    return (error.sqlstate or "")[:2] in {"22", "23"}


def lacks_column(error: psycopg.Error) -> bool:
    """Whether the table, or a column of it, is not there: it will be after the next migration."""
    return error.sqlstate in {"42703", "42P01"}


def is_too_much(error: psycopg.Error) -> bool:
    """Whether the server had no memory or locks left for the statement: half as many rows may pass."""
    return error.sqlstate in {"53200", "54000"}
