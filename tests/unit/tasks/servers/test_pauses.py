"""Pauses between tries grow, and not without end."""

from itertools import islice

from tasks.servers.pauses import pauses


def test_each_pause_is_twice_as_long_up_to_the_longest() -> None:
    """The first try after a failure comes soon, and the rate of tries falls to a fixed one."""
    assert list(islice(pauses(0.5, 5.0), 6)) == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
