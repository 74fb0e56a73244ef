"""Values as devices write them: numbers in text, integers with a point, words."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.values import NO_VALUE, boolean, integral, is_absent, number


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("63", (63, "")),
        (" -4.1 ", (-4.1, "")),
        ("+5", (5, "")),
        (".5", (0.5, "")),
        ("1e3", (1000.0, "")),
        ("5922.0", (5922.0, "")),
        ("12.4 V", (12.4, "V")),
        ("21.5 °C", (21.5, "°C")),
        ("21.5°C", (21.5, "°C")),
        ("40%", (40, "%")),
        ("3 m³/h", (3, "m³/h")),
        ("9 kWh", (9, "kWh")),
    ],
)
def test_numbers_in_text(text: str, found: tuple[float, str]) -> None:
    """Blanks and a unit behind a number go, and integers stay integers."""
    read = number(text, unit=True)
    assert read == found
    assert read is not None
    assert type(read[0]) is type(found[0])


@pytest.mark.parametrize(
    "text",
    ["", " ", "OK", "1.2.3", "10:30", "1 2", "0x10", "nan", "inf", "1e999", "--1", "5 of 9", "٣"],
)
def test_text_that_is_not_a_number(text: str) -> None:
    """A word, a version and a time of day stay what they are."""
    assert number(text, unit=True) is None


def test_a_unit_and_a_comma_are_declared() -> None:
    """Neither is taken unless it is asked for."""
    assert number("12.4 V") is None
    assert number("21,5") is None
    assert number("21,5", comma=True) == (21.5, "")
    assert number("1,234.5", comma=True) is None


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_the_shortest_text_of_a_double_is_that_double(value: float) -> None:
    """Text loses nothing."""
    found = number(repr(value))
    assert found is not None
    assert found[0] == value


@given(text=st.text(max_size=200), comma=st.booleans(), unit=st.booleans())
def test_any_text_is_a_finite_number_or_none(text: str, comma: bool, unit: bool) -> None:
    """Nothing else comes out, and nothing is raised."""
    found = number(text, comma=comma, unit=unit)
    if found is not None:
        assert math.isfinite(found[0])
        assert Decimal(found[0]).is_finite()


@given(value=st.floats() | st.integers() | st.text() | st.booleans())
def test_an_integral_float_is_its_integer(value: float | int | str) -> None:
    """And only a float that a double holds exactly."""
    found = integral(value)
    expected = type(value) is float and math.isfinite(value) and value.is_integer() and abs(value) <= 2**53
    assert (found is not None) == expected
    assert found is None or (type(found) is int and found == value)


@pytest.mark.parametrize("value", [None, "", " ", "NaN", "-nan", "None", "unavailable", [], math.nan])
def test_words_for_no_value(value: object) -> None:
    """In any case, with blanks around them."""
    assert is_absent(value, NO_VALUE)


@pytest.mark.parametrize("value", [0, False, "0", "off", [0], {}, "nano"])
def test_values_that_are_there(value: object) -> None:
    """Zero and false are values."""
    assert not is_absent(value, NO_VALUE)


def test_without_words_only_null_is_absent() -> None:
    """A domain may want each word."""
    assert is_absent(None, frozenset())
    values: list[object] = ["", "nan", [], math.nan]
    assert not any(is_absent(value, frozenset()) for value in values)


def test_booleans_as_words() -> None:
    """The declared words alone."""
    true, false = frozenset(["ON"]), frozenset(["OFF"])
    assert [boolean(value, true, false) for value in ("ON", " OFF ", "on", 1)] == [True, False, "on", 1]
