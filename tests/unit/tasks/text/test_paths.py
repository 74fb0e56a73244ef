"""Dotted paths: where a rule finds its value in a payload."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.paths import MISSING, has_stray_quotes, steps, walk


def lookup(payload: dict[str, Any], path: str) -> Any:
    """The value that a rule with this key judges; a key that is literally the whole path comes first."""
    value, further = payload.get(path, MISSING), steps(path)
    return value if value is not MISSING or further is None else walk(payload, further)


@pytest.mark.parametrize(
    ("payload", "path", "value"),
    [
        ({"a": 1}, "a", 1),
        ({"a": {"b": {"c": 2}}}, "a.b.c", 2),
        ({"a": [10, 20]}, "a.1", 20),
        ({"a": [{"b": 3}]}, "a.0.b", 3),
        ({"a": {"0": 4}}, "a.0", 4),
        ({"a": {"00": 5}}, "a.00", 5),
        ({"a": {"b": None}}, "a.b", None),
        ({"meter": {"1.8.0": 123.4}}, 'meter."1.8.0"', 123.4),
        ({"a.b": {"c.d": [6]}}, '"a.b"."c.d".0', 6),
        ({"odd name": 7}, '"odd name"', 7),
        ({"a": {'b"c': 8}}, 'a."b""c"', 8),
        ({"a": {'"': 8}}, 'a.""""', 8),
        ({"a": {"": {"b": 9}}}, 'a."".b', 9),
        ({"a": {"0": 4}}, 'a."0"', 4),
        ({"a": {'5"': 1}}, 'a.5"', 1),
    ],
)
def test_a_path_leads_to_its_value(payload: dict[str, object], path: str, value: object) -> None:
    """A path goes through objects by key and through lists by index."""
    assert lookup(payload, path) == value


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({}, "a"),
        ({"a": 1}, "a.b"),
        ({"a": [1]}, "a.1"),
        ({"a": [1]}, "a.-1"),
        ({"a": [1]}, "a.00"),
        ({"a": [1]}, "a.b"),
        ({"a": [1]}, "a.9999999999999999999999"),
        ({"a": "text"}, "a.0"),
        ({"a": {"b": 1}}, "a."),
        ({"a": {"b": 1}}, ".a.b"),
        ({"a": [4]}, 'a."0"'),
        ({"a": {"b": 1}}, 'a."b'),
        ({"a": {"b": 1}}, 'a."b"c'),
        ({"a": {"b": 1}}, 'a."b".'),
    ],
)
def test_a_path_that_leads_nowhere_is_missing(payload: dict[str, object], path: str) -> None:
    """A missing value is `MISSING`, never an error and never null."""
    assert lookup(payload, path) is MISSING


def test_the_literal_key_wins_over_the_path() -> None:
    """A key that holds the whole path, dots included, is meant, even if it is null."""
    assert lookup({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert lookup({"a.b": None, "a": {"b": 2}}, "a.b") is None


@given(st.lists(st.text('ab".0 ', max_size=4), min_size=1, max_size=4))
def test_names_in_quotes_lead_to_any_value(names: list[str]) -> None:
    """Whatever the names of nested objects hold, quotes and dots included."""
    payload: Any = "found"
    for name in reversed(names):
        payload = {name: payload}
    path = ".".join('"' + name.replace('"', '""') + '"' for name in names)
    assert lookup(payload, path) == "found"
    assert not has_stray_quotes(path)


@pytest.mark.parametrize("path", ['a."b', 'a."b"c', '"', '"a', 'a."b"".c', 'a."b"c.d'])
def test_quotes_that_enclose_no_step_are_parts_of_names(path: str) -> None:
    """Such keys meant names with quotes before quotes had a meaning, and still do."""
    assert has_stray_quotes(path)
    payload: Any = "found"
    for name in reversed(path.split(".")):
        payload = {name: payload}
    assert lookup(payload, path) == "found"
