"""Connections that users aim: only to public addresses, and not for longer than allowed.

Whatever library connects, Python raises its audit event `socket.connect` with the address itself, after every
resolution of names and every redirect; a thread inside `guarded` may connect to no other address than those
allowed. So neither a DNS answer that changes nor a redirect leads into the operator's networks.
"""

import contextlib
import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The special ones of IANA's registries, whatever the version of Python knows of them; of IPv6 what is public.
_INSIDE = tuple(
    ipaddress.IPv4Network(one)
    for one in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    )
)
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
_INSIDE_IPV6 = tuple(
    ipaddress.IPv6Network(one) for one in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# Addresses that hold an IPv4 address, which a gateway may reach.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(Exception):
    """The address is not public, and no network that the operator allows has it. It is named."""


class TooManyConnections(ConnectionError):
    """One attempt has begun `MOST_CONNECTIONS`."""


# Begun by one attempt: what is open keeps a descriptor to its end.
MOST_CONNECTIONS = 64
# Between the looks for what was still opened when the time ended.
_AGAIN_SECONDS = 0.2


class _Guarded(threading.local):
    """The limits of the guarded thread; `networks` is None outside, and where every address is allowed."""

    active = False
    networks: tuple[Network, ...] | None = None
    refused = ""
    deadline = 0.0  # of the monotonic clock
    opened: list[int] | None = None
    begun = 0
    lock = threading.Lock()  # of `opened`, which the thread that breaks off reads


_thread = _Guarded()


def is_refused(address: str, allowed: Iterable[Network] = ()) -> bool:
    """Whether an address must not be connected to: it is not public, or no address. Pure."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    faces = list(_faces(parsed))
    if any(face in network for face in faces for network in allowed if face.version == network.version):
        return False
    return any(_is_inside(face) for face in faces)


def is_address(host: str) -> bool:
    """Whether a host is an IP address, and no name. Pure."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def networks(text: str) -> tuple[Network, ...]:
    """The networks of a setting, `10.0.0.0/8,fd00::/8`. Raises `ValueError`."""
    return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())


@contextlib.contextmanager
def guarded(seconds: float, allowed: tuple[Network, ...] | None) -> Iterator[None]:
    """The thread's connections go only to public or `allowed` addresses, and break off after `seconds`.

    None begins after them: it raises `TimeoutError`; nor more than `MOST_CONNECTIONS`. With None for
    `allowed` every address may be connected to. Raises `AddressRefused`, also where a library has hidden it.
    Do not nest it.
    """
    _install()
    _thread.active, _thread.networks, _thread.refused = True, allowed, ""
    _thread.deadline = time.monotonic() + seconds
    opened: list[int] = []
    lock, over = threading.Lock(), threading.Event()
    _thread.opened, _thread.lock, _thread.begun = opened, lock, 0
    threading.Thread(target=_break_off, args=[seconds, over, opened, lock], daemon=True).start()
    try:
        yield
    finally:
        over.set()
        _thread.active, _thread.networks, _thread.opened = False, None, None
        with lock:
            for descriptor in opened:
                os.close(descriptor)
            opened.clear()
        if refused := _thread.refused:
            _thread.refused = ""
            raise AddressRefused(refused)


@contextlib.contextmanager
def besides() -> Iterator[None]:
    """A refusal in this block stays a refusal, but does not change how the attempt ends."""
    before = _thread.refused
    try:
        yield
    finally:
        _thread.refused = before


def check_time() -> None:
    """Raises `TimeoutError` if the time of the guarded thread is over."""
    if _thread.active and time.monotonic() >= _thread.deadline:
        raise TimeoutError("the time of the attempt is over")


def is_active() -> bool:
    """Whether this thread is guarded."""
    return _thread.active


def _faces(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 address inside it, if it has one."""
    yield address
    if isinstance(address, ipaddress.IPv6Address) and (address in _MAPPED or address in _NAT64):
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def _is_inside(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return any(address in network for network in _INSIDE)
    if address in _MAPPED or address in _NAT64:
        return False  # its other face is judged
    return address not in _PUBLIC_IPV6 or any(address in network for network in _INSIDE_IPV6)


@lru_cache
def _install() -> None:
    # A hook stays for the life of the process; it does nothing outside of `guarded`.
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith("socket.") or not _thread.active:
        return
    if event == "socket.connect":
        _judge(*arguments)
    elif event in {"socket.sendto", "socket.sendmsg"}:
        # Only with an address of its own: a connected socket was judged.
        address = arguments[1]
        if address:
            _judge(*arguments)
    elif event == "socket.bind":
        # Not said where a library hides it: as they are loaded, some try whether there is IPv6.
        raise AddressRefused("a port to listen at")


def _judge(connection: Any, address: Any) -> None:
    check_time()
    if connection.family not in {socket.AF_INET, socket.AF_INET6}:
        _refuse("a local socket")
    if _thread.networks is not None:
        host = address[0] if isinstance(address, tuple) and address else ""
        if is_refused(str(host), _thread.networks):
            # A name may be a secret.
            _refuse(f"{host} is not a public address" if is_address(str(host)) else "a host without address")
    if _thread.opened is None:
        return
    if _thread.begun >= MOST_CONNECTIONS:
        raise TooManyConnections(f"more than {MOST_CONNECTIONS} connections in one attempt")
    _thread.begun += 1
    # Another descriptor of the same connection: whatever the library does, it can be ended.
    with _thread.lock:
        _drop_failed(_thread.opened)
        _thread.opened.append(os.dup(connection.fileno()))


def _drop_failed(opened: list[int]) -> None:
    """Closes what has not become a connection: a thread connects one after the other."""
    for descriptor in opened.copy():
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            try:
                connection.getpeername()
            except OSError:
                opened.remove(descriptor)
                os.close(descriptor)


def _refuse(what: str) -> None:
    _thread.refused = what
    raise AddressRefused(what)


def _break_off(seconds: float, over: threading.Event, opened: list[int], lock: threading.Lock) -> None:
    """Ends what is open when the time is, and what was just about to be opened then."""
    while not over.wait(seconds):
        seconds = _AGAIN_SECONDS
        with lock:
            for descriptor in opened:
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
                    connection.shutdown(socket.SHUT_RDWR)
