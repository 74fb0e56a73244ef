"""The caller, by the token of the request: the operator or a tenant, each at a bounded rate."""

import hmac
import threading
from collections import OrderedDict
from typing import Annotated, NamedTuple

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ingest.admin.accounts import tokens
from ingest.admin.errors import ServerAway
from ingest.api import shares
from ingest.api.connections import Connections
from ingest.api.problems import NotFound, Refused
from ingest.api.shares import Share
from ingest.mqtt.rate_limits import RateLimit
from tasks.settings import Settings
from tasks.text.wording import id_fault, printable

BURST_SECONDS = 10.0
# Tokens that are not known to be valid, from one address: each costs a query.
UNKNOWN_PER_SECOND = 5.0
# Guesses of the operator's token, from one address; beyond them not even the right one counts for a moment.
GUESSES_PER_SECOND, GUESSES_AT_ONCE_SECONDS = 5.0, 20.0
# Tokens that were valid a while ago are remembered, for the rate only.
MOST_KNOWN = 10_000

_bearer = HTTPBearer(auto_error=False, description="`WEB_TOKEN`, or a token of `sluice tokens create`.")


class Caller(NamedTuple):
    """The owner of a valid token or session; the operator has no user."""

    user_id: str | None
    person: str = ""  # who says to be the operator, if anybody has

    @property
    def is_operator(self) -> bool:
        """Whether everything is the caller's to see."""
        return self.user_id is None

    @property
    def name(self) -> str:
        """How the operators' trail names the caller."""
        who = f"operator {self.person}".rstrip() if self.user_id is None else f"tenant {self.user_id}"
        return f"sluice-web/{who}"

    def may_see(self, user_id: str) -> str:
        """The user's id. Raises `NotFound` for another tenant's, and for what is not an id."""
        if id_fault(user_id) or (self.user_id is not None and self.user_id != user_id):
            raise NotFound(f'There is no user "{printable(user_id)}" for this token.')
        return user_id

    def only(self, wanted: str | None) -> str | None:
        """The user to select: a tenant's own, the one that the operator wants, or None for all.

        Raises `NotFound` as `may_see` does.
        """
        return self.user_id if wanted is None else self.may_see(wanted)


class Gate:
    """Lets in who has a valid token, not more often than the settings allow."""

    def __init__(self, chosen: Settings, connections: Connections) -> None:
        self._operator = None if chosen.web_token is None else chosen.web_token.get_secret_value().encode()
        self._operators_is_shaped = self._operator is not None and _is_shaped(self._operator.decode())
        self._connections = connections
        self._rate = chosen.web_requests_per_second
        self._requests = RateLimit(self._rate, BURST_SECONDS)
        self._unknown = RateLimit(UNKNOWN_PER_SECOND, BURST_SECONDS)
        self._guesses = RateLimit(GUESSES_PER_SECOND, GUESSES_AT_ONCE_SECONDS)
        self._known: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, token: str | None, address: str) -> Caller:
        """The caller with this token. Raises `Refused` (401, 429) and what `Connections.reading` raises."""
        token = self.shaped(token)
        if self.is_operators(token):
            self.count("operator")
            return Caller(None)
        hashed = tokens.hash_of(token)
        with self._lock:
            known = hashed in self._known
            if not known and not self._unknown.take(shares.network(address)):
                raise _too_many("Too many unknown tokens come from this address.")
        if known:
            # Before the query: a token beyond its rate takes no connection from others.
            self.count(hashed.hex())
        with self._connections.reading() as connection:
            user_id = tokens.owner(connection, token)
        if user_id is None:
            with self._lock:
                self._known.pop(hashed, None)
            raise _unauthorised(_UNKNOWN)
        with self._lock:
            self._known[hashed] = user_id
            self._known.move_to_end(hashed)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        if not known:
            self.count(hashed.hex())
        return Caller(user_id)

    def is_valid(self, token: str) -> bool:
        """Whether a token that was admitted still counts, also where the database cannot be asked now."""
        if self.is_operators(token):
            return True
        try:
            with self._connections.reading() as connection:
                return tokens.owner(connection, token) is not None
        except (Refused, ServerAway):
            return True

    def shaped(self, token: str | None) -> str:
        """The token, if it may be one. Asks no database. Raises `Refused` (401)."""
        if token is None:
            raise _unauthorised("The request has no token. Send `Authorization: Bearer TOKEN`.")
        if not _is_shaped(token) and not self.is_operators(token):
            raise _unauthorised(_UNKNOWN)
        return token

    def share(self, authorization: str, address: str) -> Share:
        """The caller of this request, as far as known before any query. Raises `Refused` (401, 429)."""
        scheme, _, given = authorization.partition(" ")
        token = given.strip() if scheme.lower() == "bearer" else ""
        if token and self.is_operators_from(token, address):
            return shares.OPERATOR
        token = self.shaped(token or None)
        with self._lock:
            user_id = self._known.get(tokens.hash_of(token))
        return shares.STRANGERS if user_id is None else shares.of_tenant(user_id)

    def is_operators_from(self, token: str, address: str) -> bool:
        """Whether this is the operator's token, at a bounded rate of guesses. Raises `Refused` (429)."""
        # A token shaped like a tenant's is not a guess, unless the operator's has that shape, too.
        if _is_shaped(token) and not self._operators_is_shaped:
            return False
        network = shares.network(address)
        with self._lock:
            if not self._guesses.has(network):
                raise _too_many("Too many tokens that are none come from this address.")
            if not (right := self.is_operators(token)):
                self._guesses.take(network)
        return right

    def is_operators(self, token: str) -> bool:
        """Whether this is the operator's token; for a request whose guess is counted."""
        return self._operator is not None and hmac.compare_digest(
            token.encode(errors="replace"), self._operator
        )

    def count(self, key: str) -> None:
        """Counts a request of this caller. Raises `Refused` (429)."""
        with self._lock:
            if not self._requests.take(key):
                raise _too_many(
                    f"This token may send {self._rate:g} requests/s (WEB_REQUESTS_PER_SECOND), after a burst"
                    f" of {BURST_SECONDS:g} s' worth of it. Wait a moment."
                )


def _is_shaped(token: str) -> bool:
    """Whether this may be a tenant's token."""
    return len(token) == tokens.LENGTH and token.startswith(tokens.PREFIX)


_UNKNOWN = "The token is unknown, has expired or was revoked. `sluice tokens create USER` makes one."


def _unauthorised(detail: str) -> Refused:
    return Refused(401, detail, WWW_Authenticate='Bearer realm="sluice"')


def _too_many(detail: str) -> Refused:
    return Refused(429, detail, Retry_After="1")


def _caller(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    gate: Gate = request.app.state.gate
    address = request.client.host if request.client else ""
    caller = gate.admit(None if given is None else given.credentials, address)
    request.state.is_operator = caller.is_operator
    return caller


Anybody = Annotated[Caller, Depends(_caller)]
"""The operator or a tenant."""


def _operator(caller: Anybody) -> Caller:
    if not caller.is_operator:
        raise Refused(403, "Only the operator's token may ask for this: it is about all users.")
    return caller


Operator = Annotated[Caller, Depends(_operator)]
"""The operator alone."""
