"""The id of the request that is being answered: the caller's own, or a new one."""

import re
from contextvars import ContextVar
from uuid import uuid4

HEADER = "x-request-id"

_TAKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def begin(given: str) -> str:
    """Makes `given` the id of this request if a log may hold it; otherwise makes a new one."""
    chosen = given if _TAKEN.fullmatch(given) else uuid4().hex
    _current.set(chosen)
    return chosen


def current() -> str:
    """The id of this request; empty outside any."""
    return _current.get()
