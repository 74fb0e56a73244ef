"""Dotted paths: where a rule finds its value in a payload."""

from typing import Any

import pytest

from tasks.text.paths import MISSING, steps, walk


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
    ],
)
def test_a_path_that_leads_nowhere_is_missing(payload: dict[str, object], path: str) -> None:
    """What is not there is `MISSING`, never an error and never null."""
    assert lookup(payload, path) is MISSING


def test_the_literal_key_wins_over_the_path() -> None:
    """A key that holds the whole path, dots included, is meant, even if it is null."""
    assert lookup({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert lookup({"a.b": None, "a": {"b": 2}}, "a.b") is None
