"""The work of `sluice tokens`: tenants' tokens of the HTTP API, of which only hashes are kept."""

import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import dict_row

from ingest.admin.accounts.accounts import check_id
from ingest.admin.audit import note
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from tasks.text.times import in_utc

PREFIX = "sluice_"
# 256 random bits in URL-safe Base64, behind the prefix.
LENGTH = len(PREFIX) + 43
MOST_OF_A_USER = 100

_INSERT = """
INSERT INTO web_tokens (token_id, user_id, token_hash, expires_at)
SELECT %(token_id)s, %(user_id)s, %(token_hash)s, %(expires_at)s
WHERE (SELECT count(*) FROM web_tokens WHERE user_id = %(user_id)s) < %(most)s
"""
_FIND = """
SELECT user_id, token_id FROM web_tokens
WHERE token_hash = %s AND (expires_at IS NULL OR expires_at > now())
"""
_LIST = """
SELECT token_id, user_id, created_at, expires_at FROM web_tokens
WHERE %(user_id)s::text IS NULL OR user_id = %(user_id)s ORDER BY user_id, created_at, token_id
"""
_REVOKE = """
DELETE FROM web_tokens WHERE user_id = %(user_id)s AND (%(token_id)s::text IS NULL OR token_id = %(token_id)s)
RETURNING token_id
"""


class NoToken(OperatorError):
    """The user has no such token."""


class TooManyTokens(OperatorError):
    """The user has as many tokens as one may have."""


class Made(NamedTuple):
    """A new token; `token` itself is known only now."""

    token_id: str
    token: str


class Found(NamedTuple):
    """The owner of a token, and the id by which it is listed."""

    user_id: str
    token_id: str


def hash_of(token: str) -> bytes:
    """The stored part of a token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def create(connection: Connection, user_id: str, expires_at: datetime | None = None) -> Made:
    """A new token of the user, with a line in the audit trail. Raises `InvalidId`, `TooManyTokens`."""
    check_id(user_id, "user id")
    made = Made(secrets.token_hex(4), PREFIX + secrets.token_urlsafe(32))
    values = {
        "token_id": made.token_id,
        "user_id": user_id,
        "token_hash": hash_of(made.token),
        "expires_at": expires_at,
        "most": MOST_OF_A_USER,
    }
    with connection.transaction():
        if not connection.execute(_INSERT, values).rowcount:
            raise TooManyTokens(
                f"The user {user_id} has {MOST_OF_A_USER} tokens, which are as many as one may have."
                f" `sluice tokens revoke {user_id} TOKEN_ID` ends one."
            )
        note(connection, "CREATE", "web_tokens", user_id, {"token_id": made.token_id})
    return made


def owner(connection: Connection, token: str) -> str | None:
    """The user whose token this is, if it is one that is valid now. Raises `psycopg.Error`."""
    one = found(connection, token)
    return None if one is None else one.user_id


def found(connection: Connection, token: str) -> Found | None:
    """The token, if it is one that is valid now. Raises `psycopg.Error`."""
    row = connection.execute(_FIND, [hash_of(token)]).fetchone()
    return None if row is None else Found(str(row[0]), str(row[1]))


def listed(connection: Connection, user_id: str | None) -> list[dict[str, Any]]:
    """The tokens, of all users or of one, without what they are. Raises `psycopg.Error`."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_LIST, {"user_id": user_id}).fetchall()


def revoke(connection: Connection, user_id: str, token_id: str | None) -> int:
    """Ends one token of the user, or all of them, at once; returns how many. Raises `NoToken`."""
    with connection.transaction():
        gone = connection.execute(_REVOKE, {"user_id": user_id, "token_id": token_id}).fetchall()
        if not gone:
            which = "no token" if token_id is None else f"no token {token_id}"
            raise NoToken(f"The user {user_id} has {which}; `sluice tokens list` shows all.")
        note(connection, "REVOKE", "web_tokens", user_id, {"token_ids": [str(row[0]) for row in gone]})
    return len(gone)


def as_text(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each token."""
    for row in rows:
        ends = "" if row["expires_at"] is None else f"  until {in_utc(row['expires_at'])}"
        yield f"{row['token_id']}  {row['user_id']}  of {in_utc(row['created_at'])}{ends}"
