"""Times as devices write them, in each form, and clocks that cannot be right."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.moments import Clock, When
from tasks.domain.payload import Refused

ARRIVAL = datetime(2026, 11, 20, 10, tzinfo=UTC)
CLOCK = Clock()
MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@pytest.mark.parametrize(
    ("when", "value", "time"),
    [
        (When("t"), "2026-11-20T09:00:00.412345678Z", datetime(2026, 11, 20, 9, 0, 0, 412_345, UTC)),
        (When("t"), "2026-11-20T10:00Z", ARRIVAL),
        (When("t"), "2026-11-20T11:00:00+01:00", ARRIVAL),
        (When("t", zone="Europe/Berlin"), "2026-11-20T11:00:00", ARRIVAL),
        (When("t", zone="Europe/Berlin"), "2026-11-20 11:00", ARRIVAL),
        (When("t", zone="Europe/Berlin"), "2026-11-20T10:00:00Z", ARRIVAL),
        (When("t", "s"), 1795168800, ARRIVAL),
        (When("t", "s"), 1795168800.25, ARRIVAL + timedelta(milliseconds=250)),
        (When("t", "s"), "1795168800", ARRIVAL),
        (When("t", "s"), "1795168800.000001", ARRIVAL + timedelta(microseconds=1)),
        (When("t", "ms"), 1795168800500, ARRIVAL + timedelta(milliseconds=500)),
        (When("t", "us"), 1795168800000001, ARRIVAL + timedelta(microseconds=1)),
        (When("t", "ns"), 1795168800000001999, ARRIVAL + timedelta(microseconds=1)),
        (When("t", "iso", "epoch"), "2026-11-20T10:00:00Z", ARRIVAL),
    ],
)
def test_forms_of_time(when: When, value: Any, time: datetime) -> None:
    """Each becomes the same instant in UTC, cut to the microsecond."""
    found = when.read(value, ARRIVAL, CLOCK)
    assert found == time
    assert found.utcoffset() == timedelta(0)


@given(
    ago=st.timedeltas(-timedelta(days=1), timedelta(days=3653)),
    unit=st.sampled_from(["s", "ms", "us"]),
    text=st.booleans(),
)
def test_epoch_finds_the_unit(ago: timedelta, unit: str, text: bool) -> None:
    """Whichever it is, if the time is in the window."""
    time = ARRIVAL - ago
    number = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) // MICROSECONDS[unit]
    found = When("t", "epoch").read(str(number) if text else number, ARRIVAL, CLOCK)
    assert abs(found - time) < timedelta(microseconds=MICROSECONDS[unit])


@pytest.mark.parametrize(
    ("when", "value"),
    [
        (When("t"), 1795168800),
        (When("t"), "2026-11-20T10:00:00"),
        (When("t"), "1795168800"),
        (When("t", "s"), "2026-11-20T10:00:00Z"),
        (When("t", "s"), True),
        (When("t", "s"), "1e9"),
        (When("t", "s"), 10**30),
        (When("t", "s"), {"low": 1}),
        (When("t", "iso", "ms"), "yesterday"),
        (When("t", zone="Europe/Berlin"), "2026-13-20T10:00:00"),
        (When("t", zone="Asia/Tokyo"), "0001-01-01T00:00:00"),
    ],
)
def test_a_form_that_is_not_declared_is_refused(when: When, value: Any) -> None:
    """Nothing is guessed; the reason names the field."""
    with pytest.raises(Refused, match="InvalidTime: `t` must") as caught:
        when.read(value, ARRIVAL, CLOCK)
    assert len(caught.value.reason) <= 300


@given(
    value=st.integers() | st.floats() | st.text() | st.none() | st.booleans() | st.lists(st.integers()),
    forms=st.sampled_from([(), ("s",), ("ms",), ("us",), ("ns",), ("epoch",), ("iso", "epoch")]),
    zone=st.sampled_from(["", "Europe/Berlin", "Asia/Kathmandu"]),
)
def test_any_value_is_a_time_or_refused(value: Any, forms: Any, zone: str) -> None:
    """Nothing else is raised."""
    try:
        found: datetime | str = When("t", *forms, zone=zone).read(value, ARRIVAL, CLOCK)
    except Refused as refused:
        found = refused.error_type
    assert found == "InvalidTime" or (isinstance(found, datetime) and found.utcoffset() == timedelta(0))


def test_the_window_of_a_clock() -> None:
    """Ten years back and a day ahead, ends included."""
    for time in (ARRIVAL - timedelta(days=3653), ARRIVAL + timedelta(days=1)):
        assert CLOCK.holds(time, ARRIVAL)
    for time in (ARRIVAL - timedelta(days=3654), ARRIVAL + timedelta(days=1, microseconds=1)):
        assert not CLOCK.holds(time, ARRIVAL)


def test_declarations_that_cannot_be() -> None:
    """A number has one unit, a zone exists, and a window is not so wide that units could be mixed up."""
    with pytest.raises(TypeError, match="one unit"):
        When("t", "s", "ms")
    with pytest.raises(TypeError, match="not a form of time"):
        When("t", "minutes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a time zone"):
        When("t", zone="Mars/Olympus")
    with pytest.raises(TypeError, match="25 years"):
        Clock(back=timedelta(days=40 * 365))
