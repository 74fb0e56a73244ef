"""Who may sign in, and whether a session still holds: by the operator's token, a tenant's, or an account."""

import hmac
import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime

import structlog

from ingest.admin.accounts import accounts, passwords, tokens
from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.postgres import Connection
from ingest.api.callers import BURST_SECONDS, UNKNOWN_PER_SECOND, Caller, Gate
from ingest.api.connections import Connections
from ingest.api.problems import Refused
from ingest.api.shares import network
from ingest.console import sessions
from ingest.console.sessions import Seals, Session
from ingest.mqtt.rate_limits import RateLimit

log = structlog.get_logger()

MOST_REMEMBERED = 10_000

_ACCOUNT = """
SELECT password_hash, salt, iterations FROM mqtt_users
WHERE username = %s AND user_id = %s AND kind = 'user' AND enabled
"""
_ENDED = "SELECT 1 FROM web_logouts WHERE session_id = %s"
_END = "INSERT INTO web_logouts (session_id, expires_at) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_FORGET = "DELETE FROM web_logouts WHERE expires_at < now()"
_HELD = """
SELECT 1 FROM web_tokens WHERE token_id = %s AND user_id = %s AND (expires_at IS NULL OR expires_at > now())
"""

NOT_KNOWN = "This is not known here, or no longer valid."


class NotKnown(Refused):
    """Nobody signs in with this."""

    def __init__(self) -> None:
        super().__init__(401, NOT_KNOWN)


class SignIn:
    """Signs people in and out. All methods may be called in any thread."""

    def __init__(self, gate: Gate, connections: Connections, seals: Seals) -> None:
        self._gate = gate
        self._connections = connections
        self._seals = seals
        self._attempts = RateLimit(UNKNOWN_PER_SECOND, BURST_SECONDS)
        self._lock = threading.Lock()
        # Ended here: also while the database is away.
        self._ended: OrderedDict[str, None] = OrderedDict()

    def by_token(self, token: str, person: str, address: str) -> Session:
        """A session of whose token this is. Raises `NotKnown`, `Refused`, and what a connection raises."""
        # By the limit of the HTTP API: the two of them give no more guesses than one.
        if self._gate.is_operators_from(token, address):
            return sessions.begin("operator", None, person=person)
        self._attempt(address)
        with self._connections.reading() as connection:
            found = tokens.found(connection, token)
        if found is None:
            raise NotKnown
        return sessions.begin("token", found.user_id, found.token_id)

    def by_account(self, username: str, password: str, address: str) -> Session:
        """A session of the user whose own account this is. Raises as `by_token` does."""
        self._attempt(address)
        try:
            account = accounts.user(username)
        except OperatorError:
            raise NotKnown from None
        with self._connections.reading() as connection:
            row = _account(connection, username)
        # An unknown username is hashed, too: so the time of the answer reveals nothing.
        stored, salt, iterations = row or ("", "nobody's salt", passwords.ITERATIONS)
        given = passwords.hash_password(password, salt, iterations)
        if not hmac.compare_digest(stored.encode(), given.encode()) or row is None:
            raise NotKnown
        return sessions.begin("account", account.user_id, self._proof(stored))

    def caller(self, session: Session) -> Caller | None:
        """The caller, at a bounded rate; None if the session was ended, or the login it was begun with was.

        The operator is let in while the database is away. Raises `Refused`, and what a connection raises.
        """
        if session.id in self._ended:
            return None
        self._gate.count(f"session {session.id}")
        try:
            with self._connections.reading() as connection:
                if not self._holds(connection, session):
                    return None
        except (ServerAway, Refused) as error:
            if session.by != "operator":
                raise
            log.warning("session_not_checked", error=str(error))
        return Caller(session.user_id, session.person)

    def end(self, session: Session) -> None:
        """Ends the session, for who has a copy of its cookie, too. Raises what a connection raises."""
        with self._lock:
            self._ended[session.id] = None
            if len(self._ended) > MOST_REMEMBERED:
                self._ended.popitem(last=False)
        with self._connections.writing("sluice-web") as connection:
            connection.execute(_FORGET)
            connection.execute(_END, [session.id, datetime.fromtimestamp(session.until, UTC)])

    def _holds(self, connection: Connection, session: Session) -> bool:
        if connection.execute(_ENDED, [session.id]).fetchone() is not None:
            return False
        user_id = session.user_id or ""
        if session.by == "token":
            return connection.execute(_HELD, [session.proof, user_id]).fetchone() is not None
        if session.by == "account":
            row = _account(connection, user_id)
            return row is not None and hmac.compare_digest(self._proof(row[0]), session.proof)
        return True

    def _proof(self, password_hash: str) -> str:
        return self._seals.seal("password", password_hash)

    def _attempt(self, address: str) -> None:
        with self._lock:
            if not self._attempts.take(network(address)):
                raise Refused(429, "Too many attempts to sign in come from this address. Wait a minute.")


def _account(connection: Connection, user_id: str) -> tuple[str, str, int] | None:
    row = connection.execute(_ACCOUNT, [accounts.user(user_id).username, user_id]).fetchone()
    return None if row is None else (str(row[0]), str(row[1]), int(str(row[2])))


def remaining(session: Session) -> int:
    """For how many more seconds the session is."""
    return max(0, session.until - int(time.time()))
