"""The broker's accounts in the database: made with a new password, listed, removed."""

import hmac
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

import psycopg

from ingest.admin.accounts.accounts import Account, Kind, acl, device
from ingest.admin.accounts.passwords import (
    ITERATIONS,
    check_password,
    generate_password,
    generate_salt,
    hash_password,
)
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from tasks.settings import settings


class UsernameTaken(OperatorError):
    """The username belongs to an account of another kind."""


class TooManyDevices(OperatorError):
    """A user would have more devices than DEVICES_PER_USER."""


class UnknownUsername(OperatorError):
    """There is no such account."""


class Credential(NamedTuple):
    """The username and password of an MQTT client."""

    username: str
    password: str


class Listed(NamedTuple):
    """An account as `sluice provision list` shows it."""

    username: str
    kind: Kind
    enabled: bool
    created_at: datetime
    rotated_at: datetime


class Owned(NamedTuple):
    """An account with what it is of, without secrets."""

    username: str
    kind: Kind
    user_id: str | None
    device_id: str | None
    enabled: bool
    created_at: datetime
    rotated_at: datetime


def provision(connection: Connection, account: Account, password: str | None = None) -> Credential:
    """Creates the account, or gives it a new password and exactly the rights of its kind.

    Raises `UsernameTaken`, `InvalidPassword`, `TooManyDevices`.
    """
    chosen = generate_password() if password is None else check_password(password)
    return _store(connection, [account], [chosen], [_salt_of(connection, account, chosen)])[0]


def provision_devices(connection: Connection, devices: Iterable[tuple[str, str]]) -> list[Credential]:
    """New passwords for many devices `(user_id, device_id)`, one for each, in their order: all or none.

    A device that is named twice gets one password. 10,000 devices take about 1 s, a third of it for
    the hashes (two cores). Raises `InvalidId`, `UsernameTaken`, `TooManyDevices`.
    """
    wanted = [device(user_id, device_id) for user_id, device_id in devices]
    accounts = list(dict.fromkeys(wanted))
    made = dict(zip(accounts, provision_all(connection, accounts), strict=True))
    return [made[account] for account in wanted]


def provision_all(connection: Connection, accounts: Sequence[Account]) -> list[Credential]:
    """New passwords for these accounts, no two of them the same: all or none.

    Raises `UsernameTaken`, `TooManyDevices`.
    """
    passwords = [generate_password() for _ in accounts]
    salts = [generate_salt() for _ in accounts]
    return _store(connection, accounts, passwords, salts)


def present(connection: Connection, accounts: Sequence[Account]) -> set[str]:
    """The usernames of those accounts that there are, locked against who would make others of the same users.

    Call it inside a transaction. Raises `psycopg.Error`.
    """
    for user_id in sorted({account.user_id or "" for account in accounts}):
        connection.execute(_LOCK_ACCOUNTS, [user_id])
    rows = connection.execute(
        "SELECT username FROM mqtt_users WHERE username = ANY(%s)", [[one.username for one in accounts]]
    ).fetchall()
    return {str(username) for (username,) in rows}


_LOCK_ACCOUNTS = "SELECT pg_advisory_xact_lock(hashtext('sluice_accounts'), hashtext(%s))"


def _salt_of(connection: Connection, account: Account, password: str) -> str:
    """The account's salt where this is its password already, so that nothing changes; else a new one.

    Mosquitto takes every change for a new password, and checks everybody again.
    """
    present = connection.execute(
        "SELECT password_hash, salt FROM mqtt_users WHERE username = %s AND iterations = %s",
        [account.username, ITERATIONS],
    ).fetchone()
    if present is not None and hmac.compare_digest(str(present[0]), hash_password(password, str(present[1]))):
        return str(present[1])
    return generate_salt()


def _store(
    connection: Connection,
    accounts: Sequence[Account],
    passwords: Sequence[str],
    salts: Sequence[str],
) -> list[Credential]:
    with ThreadPoolExecutor() as pool:  # OpenSSL computes without the interpreter lock
        hashes = list(pool.map(hash_password, passwords, salts, chunksize=64))
    rights = [(account.username, *right) for account in accounts for right in acl(account)]
    usernames = [account.username for account in accounts]
    with connection.transaction():
        written = connection.execute(
            _UPSERT_USERS,
            {
                "usernames": usernames,
                "hashes": hashes,
                "salts": salts,
                "iterations": ITERATIONS,
                "kinds": [account.kind for account in accounts],
                "users": [account.user_id for account in accounts],
                "devices": [account.device_id for account in accounts],
            },
        ).fetchall()
        if len(written) != len(accounts):
            taken = min(set(usernames) - {str(row[0]) for row in written})
            raise UsernameTaken(
                f"The username {taken} belongs to an account of another kind. Remove that one first"
                f" (`sluice provision remove {taken}`), or choose another name."
            )
        made = {str(username) for username, new in written if new}
        _refuse_too_many(connection, {account.user_id for account in accounts if account.username in made})
        columns = [list(column) for column in zip(*rights, strict=True)] or [[], [], []]
        # Rights that stay are not written again: the audit would record a change.
        connection.execute(
            "DELETE FROM mqtt_acl WHERE username = ANY(%s) AND (username, permission, action, topic) NOT IN"
            " (SELECT username, 'allow', action, topic"
            " FROM unnest(%s::text[], %s::text[], %s::text[]) AS rights (username, action, topic))",
            [usernames, *columns],
        )
        connection.execute(_INSERT_RIGHTS, columns)
    return [Credential(*pair) for pair in zip(usernames, passwords, strict=True)]


_UPSERT_USERS = """
INSERT INTO mqtt_users AS present (username, password_hash, salt, iterations, kind, user_id, device_id)
SELECT username, password_hash, salt, %(iterations)s, kind, user_id, device_id
FROM unnest(%(usernames)s::text[], %(hashes)s::text[], %(salts)s::text[], %(kinds)s::text[],
            %(users)s::text[], %(devices)s::text[])
     AS given (username, password_hash, salt, kind, user_id, device_id)
ON CONFLICT (username) DO UPDATE
SET password_hash = excluded.password_hash, salt = excluded.salt, iterations = excluded.iterations,
    enabled = true,
    rotated_at = CASE WHEN present.password_hash = excluded.password_hash THEN present.rotated_at
                      ELSE now() END
WHERE present.kind = excluded.kind
RETURNING username, xmax = 0
"""
_TOO_MANY = """
SELECT user_id, count(*) FROM mqtt_users WHERE kind = 'device' AND user_id = ANY(%s)
GROUP BY user_id HAVING count(*) > %s LIMIT 1
"""


def _refuse_too_many(connection: Connection, users: set[str | None]) -> None:
    """Raises `TooManyDevices` when one of them, with what was just written, has too many."""
    most = settings().devices_per_user
    found = connection.execute(_TOO_MANY, [[user for user in users if user], most]).fetchone()
    if found is not None:
        raise TooManyDevices(
            f"The user {found[0]} would have {found[1]:,} devices; at most {most:,} are allowed"
            " (DEVICES_PER_USER). Remove some (`sluice provision remove`), or raise the setting."
        )


_INSERT_RIGHTS = """
INSERT INTO mqtt_acl (username, permission, action, topic)
SELECT username, 'allow', action, topic
FROM unnest(%s::text[], %s::text[], %s::text[]) AS rights (username, action, topic)
ON CONFLICT DO NOTHING
"""


def grant(connection: Connection) -> int:
    """Gives every account the rights that it lacks, for example after a domain was added; returns how many.

    Passwords stay, and so do rights that were given by other means.
    """
    with connection.cursor(row_factory=psycopg.rows.class_row(Account)) as cursor:
        known = cursor.execute("SELECT kind, username, user_id, device_id FROM mqtt_users").fetchall()
    rights = [(account.username, *right) for account in known for right in acl(account)]
    columns = [list(column) for column in zip(*rights, strict=True)] or [[], [], []]
    return connection.execute(_INSERT_RIGHTS, columns).rowcount


def remove(connection: Connection, username: str) -> None:
    """Removes the account and its rights. Raises `UnknownUsername`."""
    if connection.execute("DELETE FROM mqtt_users WHERE username = %s", [username]).rowcount == 0:
        raise UnknownUsername(f"There is no account {username}; `sluice provision list` shows all.")


_THIS = """
FROM mqtt_users WHERE username = %(username)s AND kind = %(kind)s
  AND user_id IS NOT DISTINCT FROM %(user_id)s AND device_id IS NOT DISTINCT FROM %(device_id)s
"""


def check_present(connection: Connection, account: Account, *, locked: bool = True) -> None:
    """Raises `UnknownUsername` unless there is this account; one of another kind by its name is another."""
    lock = "FOR UPDATE" if locked else ""
    if connection.execute(f"SELECT 1 {_THIS} {lock}", account._asdict()).fetchone() is None:
        raise UnknownUsername(f"There is no account {account.username} of this user.")


def remove_of(connection: Connection, account: Account) -> None:
    """Removes this account and its rights. Raises `UnknownUsername` as `check_present` does."""
    check_present(connection, account)
    connection.execute(f"DELETE {_THIS}", account._asdict())


def accounts(connection: Connection) -> list[Listed]:
    """Every account, by username."""
    with connection.cursor(row_factory=psycopg.rows.class_row(Listed)) as cursor:
        return cursor.execute(
            "SELECT username, kind, enabled, created_at, rotated_at FROM mqtt_users ORDER BY username"
        ).fetchall()


_PAGE = """
SELECT username, kind, user_id, device_id, enabled, created_at, rotated_at FROM mqtt_users
WHERE (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
  AND (%(after)s::text IS NULL OR username > %(after)s)
ORDER BY username LIMIT %(limit)s
"""


class Place(NamedTuple):
    """The last account of a page: the next page begins after it."""

    username: str


def page(connection: Connection, user_id: str | None, limit: int, after: Place | None = None) -> list[Owned]:
    """At most `limit` accounts, of all or of one user, by username. Raises `psycopg.Error`."""
    with connection.cursor(row_factory=psycopg.rows.class_row(Owned)) as cursor:
        return cursor.execute(
            _PAGE, {"user_id": user_id, "after": None if after is None else after.username, "limit": limit}
        ).fetchall()
