"""Which caller the current request belongs to, for limits that apply before any query."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple


class Share(NamedTuple):
    """The part of the simultaneously open requests that one caller may have."""

    name: str
    part: float

    @property
    def is_bounded(self) -> bool:
        """Whether something is kept from it for the operator."""
        return self.name != OPERATOR.name

    @property
    def is_strangers(self) -> bool:
        """Whether nobody knows yet whose it is."""
        return self.name == STRANGERS.name


OPERATOR = Share("operator", 1.0)
STRANGERS = Share("strangers", 0.25)

_current: ContextVar[Share] = ContextVar("share", default=OPERATOR)


def of_tenant(user_id: str) -> Share:
    """The share of all requests of one tenant."""
    return Share(f"tenant {user_id}", 0.5)


def network(address: str) -> str:
    """The network that counts as one address: for IPv6 a customer's whole /64."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return found.exploded[:19]


def current() -> Share:
    """The share of this request; the operator's outside any, where the process works for itself."""
    return _current.get()


@contextmanager
def counted_to(share: Share) -> Iterator[None]:
    """The block's work counts to this share, also in the threads that it uses."""
    token = _current.set(share)
    try:
        yield
    finally:
        _current.reset(token)
