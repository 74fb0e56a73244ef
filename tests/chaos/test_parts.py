"""The tools of the chaos tests do what they say: the network stalls, and what must be told is known."""

import gc
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.clocks import Skewed
from tests.chaos.judge import distinct
from tests.chaos.load import Written
from tests.chaos.proxy import Proxy
from tests.chaos.selection import SKEWS, Pair, drawn, named, single


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says again whatever it hears."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(1024):
                connection.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield int(listener.getsockname()[1])
    thread.join()
    listener.close()


def test_a_stalled_network_delivers_later_what_was_sent(echo: int) -> None:
    """Nothing arrives while it stalls, and nothing is lost."""
    proxy = Proxy(echo)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        proxy.stall()
        client.settimeout(0.3)
        client.sendall(b"two")
        with pytest.raises(TimeoutError):
            client.recv(10)
        proxy.flow()
        client.settimeout(5)
        assert client.recv(10) == b"two"
    proxy.close()


def test_a_slow_network_delivers_all_in_order_and_later(echo: int) -> None:
    """Pieces that follow each other do not wait for each other."""
    proxy = Proxy(echo)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        proxy.delay(0.2, there=False)
        began = time.monotonic()
        for number in range(10):
            client.sendall(b"%d" % number)
            time.sleep(0.01)
        with client.makefile("rb") as answers:
            assert answers.read(10) == b"0123456789"
        assert 0.2 <= time.monotonic() - began < 1.5
    proxy.close()


def test_a_bad_network_loses_packets_and_tcp_delivers_all(echo: int) -> None:
    """On a connection that is open already; when the network is good again none is lost."""
    proxy = Proxy(echo)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def sent_again(times: int) -> int:
            for number in range(times):
                client.sendall(b"%03d" % number)
                assert client.recv(10) == b"%03d" % number
            info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            return int(struct.unpack_from("I", info, 100)[0])

        assert sent_again(100) < 3
        proxy.lose(0.2)
        lost = sent_again(30)
        assert lost > 0
        proxy.flow()
        assert sent_again(100) < lost + 3
    proxy.close()


def test_a_network_that_ends_leaves_no_connection_open() -> None:
    """Neither one that was just accepted, nor one whose other end takes nothing; a warning would fail it."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        for _ in range(20):
            proxy = Proxy(int(target.getsockname()[1]))
            full = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
            full.sendall(bytes(1 << 20))
            fresh = [socket.create_connection(("127.0.0.1", proxy.port), timeout=5) for _ in range(5)]
            proxy.close()
            for client in (full, *fresh):
                client.close()
    gc.collect()


def test_the_changes_of_a_device_follow_from_its_good_readings() -> None:
    """A bad message in between changes nothing; a slice has the changes of its own ticks."""
    written = Written("dev-10", good={0: 0, 1: 1, 3: 2, 4: 2, 5: 0, 6: 2}, bad={2: b"{"})
    rises = [("TRIGGERED", 1), ("ESCALATED", 3), ("RESOLVED", 5), ("TRIGGERED", 6)]
    flips = [("TRIGGERED", 1), ("RESOLVED", 5), ("TRIGGERED", 6)]
    heated = [("TRIGGERED", 3), ("RESOLVED", 5), ("TRIGGERED", 6)]
    assert written.changes(0, 6) == [
        *[("flaps", *one) for one in flips],
        *[("heating", *one) for one in heated],
        ("operator:site", "TRIGGERED", 4),
        ("operator:site", "RESOLVED", 5),
        *[("oven", *one) for one in rises],
        *[("temperature", *one) for one in flips],
    ]
    assert written.changes(2, 4) == [
        ("heating", "TRIGGERED", 3),
        ("operator:site", "TRIGGERED", 4),
        ("oven", "ESCALATED", 3),
    ]


def test_an_override_is_for_its_device_alone() -> None:
    """The rule `limits` is about those that have a limit of their own."""
    readings = {0: 1, 1: 2, 2: 1}
    of_two = [{rule for rule, *_ in Written(name, readings).changes(0, 2)} for name in ("dev-3", "dev-5")]
    assert of_two[0] - of_two[1] == {"limits"}


def test_an_alert_that_flaps_is_told_once_more_and_then_no_more() -> None:
    """After six changes the seventh is FLAPPING, of the devices whose rule says so."""
    written = Written("dev-1", good={tick: tick % 2 for tick in range(20)})
    told = written.changes(0, 20)
    assert [one[1] for one in told if one[0] == "flaps"] == ["TRIGGERED", "RESOLVED"] * 3 + ["FLAPPING"]
    assert {one[0] for one in told} == {"flaps", "temperature"}


def test_what_was_deleted_on_its_way_needs_no_outcome() -> None:
    """A bad message by its bytes, a good one by its number; the changes follow from the rest."""
    written = Written(good={0: 0, 1: 1, 3: 1, 4: 0}, bad={2: b"{", 5: b"{}x"})
    for payload in (b'{"sequence_id": 1}', b"{"):
        written.forget(payload)
    assert written.good == {0: 0, 3: 1, 4: 0}
    assert written.bad == {5: b"{}x"}
    assert written.changes(0, 5) == [
        (rule, status, tick)
        for rule in ("oven", "temperature")
        for status, tick in (("TRIGGERED", 3), ("RESOLVED", 4))
    ]


def test_two_dead_letters_of_one_key_are_one_only_if_their_message_is_the_same() -> None:
    """A letter that was sent again is one; in a topic that was made again a key comes again for another."""
    one, other = ("users/u/devices/d/telemetry", b"{"), ("users/u/devices/d/telemetry", b"[")
    letters = [(b"t/0/1", one), (b"t/0/1", one), (b"t/0/1", other), (b"t/0/2", one)]
    assert distinct(letters) == {one: 2, other: 1}


def test_a_seed_stands_for_an_order_of_all_faults() -> None:
    """The same seed gives the same faults in the same order, and each has a name of its own."""
    names = [fault.name for fault in drawn(1, 7)]
    assert names == [fault.name for fault in drawn(1, 7)]
    assert names != [fault.name for fault in drawn(1, 8)]
    assert len(set(names)) == len(names)


def test_four_seeds_in_a_row_have_every_fault() -> None:
    """A run has one skew for each process, and all else."""
    runs = [{fault.name for fault in drawn(1, seed)} for seed in range(4)]
    assert set().union(*runs) >= {fault.name for fault in single(1)}
    skews = {fault.skew for fault in drawn(1, 3) if isinstance(fault, Skewed)}
    assert skews == set(SKEWS)


def test_two_faults_at_once_break_different_things() -> None:
    """Each pair is found again by its name; over many seeds nearly every fault is in one."""
    found = [fault for seed in range(200) for fault in drawn(1, seed) if isinstance(fault, Pair)]
    assert all(not pair.one.touches & pair.other.touches for pair in found)
    assert [one.name for one in named([pair.name for pair in found], 1)] == [pair.name for pair in found]
    assert {one.name for pair in found for one in (pair.one, pair.other)} == {f.name for f in single(1)}
