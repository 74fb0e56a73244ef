"""Sessions of the console: a signed cookie says who it is, until when, and by what.

No server is needed to read one, so the operator sees the pages while servers are away. All processes with the
same WEB_TOKEN take each other's sessions; another WEB_TOKEN ends them all.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import Literal, NamedTuple

HOURS = 12
SECONDS = HOURS * 3600

By = Literal["operator", "token", "account"]


class Session(NamedTuple):
    """A sign-in: who, by what, and until when (seconds since 1970).

    `proof` is what must still hold: the id of a tenant's token, or the seal of an account's password.
    """

    id: str
    by: By
    user_id: str | None
    proof: str
    person: str  # who says to be the operator; empty if nobody has said so
    until: int


class Seals:
    """Seals texts with a key that is made of the operator's token, or at random without one."""

    def __init__(self, token: str | None) -> None:
        # A short token must not be guessed from a cookie that a tenant has: a slow hash.
        self._key = (
            secrets.token_bytes(32)
            if token is None
            else hashlib.scrypt(token.encode(), salt=b"sluice console", n=2**14, r=8, p=1, dklen=32)
        )

    def seal(self, purpose: str, text: str) -> str:
        """The seal of a text for one purpose."""
        said = json.dumps([purpose, text]).encode()
        return _encoded(hmac.digest(self._key, said, "sha256"))

    def holds(self, purpose: str, text: str, seal: str) -> bool:
        """Whether this is that seal."""
        return hmac.compare_digest(self.seal(purpose, text).encode(), seal.encode(errors="replace"))

    def cookie(self, session: Session) -> str:
        """The session as a cookie."""
        text = _encoded(json.dumps(session).encode())
        return f"{text}.{self.seal('session', text)}"

    def session(self, cookie: str, now: float | None = None) -> Session | None:
        """The session of a cookie; None unless it is ours and not over."""
        text, _, seal = cookie.partition(".")
        if not self.holds("session", text, seal):
            return None
        # It was sealed here, so it is whole.
        found = Session._make(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
        return found if found.until > (time.time() if now is None else now) else None

    def form_token(self, session_id: str) -> str:
        """The token that every form of a session sends along, and that no other site can know."""
        return self.seal("form", session_id)


def begin(by: By, user_id: str | None, proof: str = "", person: str = "") -> Session:
    """A new session, from now on."""
    return Session(secrets.token_urlsafe(16), by, user_id, proof, person, int(time.time()) + SECONDS)


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
