"""The newest readings are kept in the bytes that earlier workers wrote, and theirs are read."""

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from tasks.alerts.newest import pack, unpack
from tasks.rules.order import Newest

US = st.integers(-(2**63), 2**63 - 1)


@given(US, US, st.lists(st.integers(0, 2**63 - 1), max_size=8))
def test_the_bytes_are_those_of_msgpack(time: int, skew: int, keys: list[int]) -> None:
    """So workers of two versions can work side by side."""
    newest = Newest(time, skew, tuple(keys))
    assert pack(newest) == msgpack.packb(newest)
    found = unpack(msgpack.packb(newest))
    assert found == newest
    assert type(found) is Newest
    assert type(found.keys) is tuple


def test_without_keys_there_are_none() -> None:
    """As the constructor takes it."""
    assert unpack(msgpack.packb([1, -2])) == Newest(1, -2)
