"""A database connection for the operator's commands: direct, short-lived, with errors that say what to do."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from ingest.admin.errors import OperatorError, ServerAway
from tasks.servers import database
from tasks.settings import settings

Connection = database.Connection

_as_owner = True


def give_up_ownership() -> None:
    """From now on `connect` uses DATABASE_URL alone in this process, whatever DATABASE_DIRECT_URL is."""
    global _as_owner  # noqa: PLW0603 - once, at the start of a process
    _as_owner = False


def connect(url: str | None = None, patience_seconds: float | None = None) -> Connection:
    """A connection in autocommit mode, by default to DATABASE_DIRECT_URL, and without that to DATABASE_URL.

    With `patience_seconds` it breaks off when the server is silent that long.

    Raises `ServerAway`; its message names the server, never the password.
    """
    chosen = settings()
    own = chosen.owners_database_url() if _as_owner else chosen.database_url
    conninfo = own.get_secret_value() if url is None else url
    try:
        return database.connect_directly(conninfo, f"sluice/{os_user()}", patience_seconds)
    except database.InvalidUrl as error:
        raise ServerAway(str(error)) from error
    except psycopg.OperationalError as error:
        raise ServerAway(
            f"The database at {_place(conninfo)} does not accept the connection: {_reason(error)}"
            " Check DATABASE_URL and that the server runs."
        ) from error


@contextmanager
def bounded(connection: Connection, seconds: float) -> Iterator[None]:
    """A transaction in which each statement, and each wait for a lock, takes at most this long."""
    # Not for the whole session: PgBouncer would hand the limit on to another client.
    with connection.transaction():
        connection.execute(
            "SELECT set_config('statement_timeout', %s, true)", [str(max(1, round(seconds * 1000)))]
        )
        yield


@contextmanager
def session(statement_seconds: float | None = None) -> Iterator[Connection]:
    """A connection for one command, closed at its end.

    With `statement_seconds` all of it is one `bounded` transaction.

    An error of the database becomes an `OperatorError` that says what to do, a lost connection becomes
    `ServerAway`.
    """
    with connect() as connection:
        try:
            with nullcontext() if statement_seconds is None else bounded(connection, statement_seconds):
                yield connection
        except errors.QueryCanceled as error:
            raise ServerAway(
                f"The database ended a query: {error.diag.message_primary}. Another session may hold a lock"
                " on what it needs: pg_stat_activity and pg_locks have it."
            ) from error
        except (errors.UndefinedTable, errors.UndefinedColumn) as error:
            raise OperatorError(
                f"The database lacks what this command needs ({error.diag.message_primary})."
                " Run `sluice migrate` first."
            ) from error
        except errors.InsufficientPrivilege as error:
            raise OperatorError(
                f"The role of DATABASE_URL is not allowed to do this: {error.diag.message_primary}."
                " Make it the owner of the database, or grant it the right."
            ) from error
        except psycopg.OperationalError as error:
            raise ServerAway(
                f"The connection to the database was lost: {_reason(error)} Try again."
            ) from error
        except psycopg.Error as error:
            raise OperatorError(f"The database refuses: {error.diag.message_primary or error}.") from error


def os_user() -> str:
    """The name of the operating system's user who runs this, or else the number."""
    # Not by the environment, in which everybody writes.
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need not have a name
        return str(os.getuid())


def _place(conninfo: str) -> str:
    places = [f"{host or 'the local socket'}:{port}" for host, port in database.places(conninfo)]
    return f"{', '.join(places)}/{conninfo_to_dict(conninfo).get('dbname') or ''}"


def _reason(error: psycopg.OperationalError) -> str:
    return " ".join(str(error).split()).rstrip(".") + "."
