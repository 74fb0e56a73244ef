"""The newest reading of a device, remembered in two places: which memory is the later one."""

from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.rules.order import KEYS, Moment, advanced, is_late, later

# Arrivals of one gateway, often the same, and times behind and ahead of them.
READINGS = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 700]), st.sampled_from([0, 0, 0, -1, -5, -800, 3])),
    min_size=2,
    max_size=20,
)


@given(READINGS, st.integers(0, 19))
def test_of_two_memories_the_later_one_goes_on(readings: list[tuple[int, int]], at: int) -> None:
    """Also where both are of one moment, and the later one has more keys."""
    newest, known, arrival = None, [], 0
    for key, (pause, skew) in enumerate(readings):
        arrival += pause
        moment = Moment.of((arrival + skew) * 1_000_000, arrival * 1_000_000, key)
        if not is_late(newest, moment):
            newest = advanced(newest, moment)
            known.append(newest)
    earlier = known[-1 - min(at, len(known) - 1)]
    # Nothing shows that a full memory, older than all keys of another one, is the older one.
    assume(len(earlier.keys) < KEYS or at < KEYS)
    assert later(earlier, newest) == newest
    assert later(newest, earlier) == newest
