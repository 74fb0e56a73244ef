"""The times at which a silent device is looked for."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.alerts.last_seen import passed

TIMES = st.integers(0, 400)


@given(st.sets(st.integers(1, 200), max_size=12), TIMES, st.integers(0, 30), TIMES, st.integers(0, 400))
def test_each_silence_that_a_wait_has_passed_is_looked_for_once(
    waits: set[int], judged: int, look: int, since: int, seen: int
) -> None:
    """By one range, however many waits have passed it: a user may have thousands of them."""
    until = judged + look
    due = any(
        seen <= until - wait and since <= until - wait and (seen > judged - wait or judged - wait < since)
        for wait in waits
    )
    found = [1 for earliest, latest in passed(waits, judged, since, until) if earliest < seen <= latest]
    assert len(found) == due
