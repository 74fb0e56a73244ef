"""Channels may reach some addresses, and connections to others are not even begun."""

import contextlib
import ipaddress
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.channels import guard
from tasks.channels.guard import AddressRefused, TooManyConnections, guarded, is_refused, networks

INSIDE = (
    *("127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.0.8", "198.18.0.1"),  # noqa: S104
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "::ffff:10.0.0.1"),
    *("::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "::127.0.0.1", "2001:db8::1"),
    *("", "localhost", "example.com", "/run/docker.sock"),
)
PRIVATE = [
    ipaddress.ip_network(one)
    for one in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
    )
]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    """Private, loopback, link-local, multicast and reserved ones, also inside IPv6, and what is none."""
    assert is_refused(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
)
def test_public_addresses_are_not(address: str) -> None:
    """Nor their forms in IPv6."""
    assert not is_refused(address)


@given(st.sampled_from(PRIVATE), st.integers(0, 2**32 - 1), st.sampled_from(["", "::ffff:", "64:ff9b::"]))
def test_no_form_of_a_private_address_passes(
    network: ipaddress.IPv4Network, number: int, before: str
) -> None:
    """Unless exactly its network is allowed."""
    address = network[number % network.num_addresses]
    assert is_refused(f"{before}{address}")
    assert is_refused(f"{before}{address}", networks("203.0.113.0/24, fd00::/8"))
    assert not is_refused(f"{before}{address}", networks(f"203.0.113.0/24,{network}"))


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    """Text that is not an address is refused without an error."""
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        assert is_refused(text)
    else:
        is_refused(text)


def test_a_connection_inside_is_refused_before_it_begins() -> None:
    """By name as by address, whatever library connects; other threads are not concerned."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(AddressRefused, match=r"127\.0\.0\.1|::1"), guarded(5, ()):
            urllib.request.urlopen(f"http://localhost:{port}/", timeout=5)
        with pytest.raises(AddressRefused), guarded(5, ()):
            socket.create_connection(("127.0.0.1", port), 5)
        with (
            pytest.raises(AddressRefused),
            guarded(5, ()),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            udp.sendto(b"", ("127.0.0.1", port))
        with pytest.raises(AddressRefused), guarded(5, ()), socket.socket(socket.AF_UNIX) as local:
            local.connect("/run/docker.sock")
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
        others: list[bool] = []

        def connect() -> None:
            with socket.create_connection(("127.0.0.1", port), 5):
                others.append(True)

        with guarded(5, ()):
            thread = threading.Thread(target=connect)
            thread.start()
            thread.join()
        assert others
        with guarded(5, networks("127.0.0.0/8")), socket.create_connection(("127.0.0.1", port), 5):
            pass
    # Outside again.
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5):
        pass


def test_a_refusal_that_a_library_hides_is_said() -> None:
    """A library that takes every error for a failure of the network changes nothing."""

    def careless() -> None:
        try:
            socket.create_connection(("127.0.0.1", 9), 5)
        except Exception:  # noqa: BLE001 - as the library does
            return

    with pytest.raises(AddressRefused), guarded(5, ()):
        careless()


def test_a_server_that_drips_is_left_in_time() -> None:
    """Each byte comes within the time of a single step, and the whole would never end."""
    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                while not ending.wait(0.02):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with (
            guarded(0.2, None),
            socket.create_connection(server.getsockname(), 5) as connection,
            # A byte that is on its way as the connection ends makes the kernel reset it.
            contextlib.suppress(ConnectionResetError),
        ):
            while connection.recv(100):
                pass
        assert time.monotonic() - began < 3
        ending.set()
        thread.join()


def test_no_connection_begins_when_the_time_is_over() -> None:
    """However many addresses a name has, and however often a library tries: each next one is refused."""
    with socket.create_server(("127.0.0.1", 0)) as server, guarded(0.05, None):
        time.sleep(0.1)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                socket.create_connection(server.getsockname(), 5)
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
    # Outside there is no such time.
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5):
        guard.check_time()


def test_what_is_connected_as_the_time_ends_is_ended_too() -> None:
    """A connection that was judged in time, and is there only after the others were ended, does not stay."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        with guarded(0.3, None), socket.socket() as connection:
            guard._judge(connection, server.getsockname())
            time.sleep(0.4)
            connection.settimeout(10)
            guard._thread.deadline = time.monotonic() + 10
            connection.connect(server.getsockname())
            assert connection.recv(1) == b""
        assert time.monotonic() - began < 5


def test_descriptors_do_not_stay() -> None:
    """A guarded connection ends for its peer when the library closes it: no descriptor of it is left."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(20):
            with guarded(5, None), socket.create_connection(server.getsockname(), 5):
                peer, _ = server.accept()
            with peer:
                peer.settimeout(5)
                assert peer.recv(1) == b""
    assert guard._thread.opened is None


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_connections_that_failed_keep_no_descriptor() -> None:
    """However many are refused; and an attempt that begins too many ends, by an error of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    before = descriptors()
    with guarded(30, None):
        for _ in range(guard.MOST_CONNECTIONS):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, 5)
        assert descriptors() <= before + 2
        with pytest.raises(TooManyConnections, match="connections in one attempt"):
            socket.create_connection(address, 5)
    # The next attempt has its own.
    with guarded(30, None), pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 5)


def test_what_is_refused_besides_is_not_said() -> None:
    """It is refused; the attempt ends as it does without it."""
    with guarded(5, ()), guard.besides(), pytest.raises(AddressRefused):
        socket.create_connection(("127.0.0.1", 9), 5)
