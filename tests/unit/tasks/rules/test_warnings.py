"""Rules that are valid and would never fire."""

from typing import Any

import pytest

from tasks.rules.parsing import parse_rules
from tasks.rules.warnings import (
    MAX_UNKNOWN_DEVICES,
    Named,
    named_devices,
    shape,
    unknown_devices,
    warnings,
)

READINGS: list[dict[str, Any]] = [
    {"temperature": 20, "leak": True, "state": "offline", "hum": "37.8", "meter": {"1.8.0": 5}},
    {"temperature": 21.5, "leak": False},
]


def warned(rule: dict[str, Any], readings: list[dict[str, Any]] = READINGS) -> dict[str, str]:
    """The warnings about a rule, by path."""
    rules = parse_rules([{"id": "r", "message": "m"} | rule])
    return {one["path"]: one["message"] for one in warnings(rules, {None: readings})}


@pytest.mark.parametrize(
    ("rule", "path", "words"),
    [
        ({"key": "leak", "operator": "==", "threshold": 1}, "rules.0.threshold", "are booleans"),
        ({"key": "state", "operator": "==", "threshold": True}, "rules.0.threshold", "are strings"),
        (
            {"key": "temperature", "operator": "in", "threshold": ["a", True]},
            "rules.0.threshold",
            "are numbers",
        ),
        ({"key": "hum", "operator": ">", "threshold": 30}, "rules.0.threshold", "in quotes is not a number"),
        ({"key": "state", "operator": ">", "threshold_key": "hum"}, "rules.0.operator", "are strings"),
        ({"key": "leak", "operator": "==", "threshold_key": "state"}, "rules.0.operator", "are booleans"),
        ({"key": "temperatur", "operator": ">", "threshold": 8}, "rules.0.key", "no recent reading"),
        ({"key": "meter.1.8.0", "operator": ">", "threshold": 8}, "rules.0.key", "no recent reading"),
        ({"key": 'meter."1.8.0', "operator": ">", "threshold": 8}, "rules.0.key", "at each end"),
        ({"key": "gone", "operator": "absent", "for_seconds": 9}, "rules.0.key", "no recent reading"),
        ({"key": "temperature", "operator": "<", "threshold_key": "x"}, "rules.0.threshold_key", "`x`"),
        (
            {"all": [{"any": [{"key": "leak", "operator": "==", "threshold": 0}]}]},
            "rules.0.all[0].any[0].threshold",
            "are booleans, this compares numbers",
        ),
    ],
)
def test_a_rule_that_can_never_fire_is_warned_of(rule: dict[str, Any], path: str, words: str) -> None:
    """With the path of what is wrong."""
    found = warned(rule)
    assert list(found) == [path]
    assert words in found[path]


@pytest.mark.parametrize(
    "rule",
    [
        {"key": "temperature", "operator": ">", "threshold": 99},
        {"key": 'meter."1.8.0"', "operator": ">", "threshold": 99},
        {"key": "leak", "operator": "!=", "threshold": False},
        {"key": "hum", "operator": "unchanged"},
        {"key": "state", "operator": "in", "threshold": [1, "x"]},
        {"operator": "absent", "for_seconds": 9},
    ],
)
def test_a_rule_that_may_fire_has_no_warning(rule: dict[str, Any]) -> None:
    """Whether it ever will is not known."""
    assert warned(rule) == {}


def test_without_readings_only_the_rule_itself_is_looked_at() -> None:
    """A user may write rules before the first device comes."""
    assert warned({"key": "leak", "operator": "==", "threshold": 1}, []) == {}
    assert list(warned({"key": '"leak', "operator": "==", "threshold": 1}, [])) == ["rules.0.key"]


def test_readings_that_are_known_in_part_prove_no_absence() -> None:
    """Types are compared all the same, and each rule with the readings of its own domain alone."""
    rules = parse_rules(
        [
            {"id": "a", "message": "m", "key": "gone", "operator": ">", "threshold": 8, "domain": "part"},
            {"id": "b", "message": "m", "key": "state", "operator": ">", "threshold": 8, "domain": "part"},
            {"id": "c", "message": "m", "key": "state", "operator": ">", "threshold": 8, "domain": "whole"},
            {"id": "d", "message": "m", "key": "power", "operator": ">", "threshold": 8},
        ]
    )
    recent: dict[str | None, list[dict[str, Any]]] = {
        "part": [{"state": "on"}],
        "whole": [{"state": 7, "power": "x"}],
        None: [{"power": 3}],
    }
    found = [one["path"] for one in warnings(rules, recent, ["part"])]
    assert found == ["rules.1.threshold"]


def test_payloads_of_one_shape_are_alike_to_warnings() -> None:
    """Names and types count, and neither values nor what is null."""
    assert shape({"a": 1, "b": {"c": "x"}, "d": None}) == shape({"b": {"c": ""}, "a": 2.5})
    shapes = [{"a": 1}, {"a": "1"}, {"a": True}, {"a": {"b": 1}}, {"a": [1]}, {"a": ["1"]}, {"b": 1}, {}]
    assert len({shape(one) for one in shapes}) == len(shapes)


def test_a_name_that_no_device_has_is_told_with_the_one_that_was_meant() -> None:
    """Patterns too, each at its place; groups, `*` and devices of other domains are not names."""
    rule = {"key": "t", "operator": ">", "threshold": 3, "message": "m"}
    rules = parse_rules(
        [
            rule | {"devices": ["frezer-1", "lab1", "@cold", "*"], "overrides": {"fre%*": {"threshold": 1}}},
            rule | {"id": "b", "devices": "lab1", "domain": "parcels"},
            rule | {"id": "c"},
        ]
    )
    named = [(None, "frezer-1"), (None, "lab1"), (None, "fre%*"), ("parcels", "lab1")]
    assert named_devices(rules) == [Named(*one) for one in named]
    unknown = {Named(None, "frezer-1"), Named(None, "fre%*"), Named("parcels", "lab1")}
    assert unknown_devices(rules, unknown, ["freezer-1", "oven"]) == [
        {
            "path": "rules.0.devices[0]",
            "message": "no known device is called `frezer-1`; the rule waits for one; did you mean"
            " `freezer-1`?",
        },
        {
            "path": "rules.0.overrides.fre%*",
            "message": "no known device fits `fre%*`; the rule waits for one",
        },
        {
            "path": "rules.1.devices",
            "message": "no known device is called `lab1`; the rule waits for one",
        },
    ]
    many = parse_rules([rule | {"devices": [f"d{n}" for n in range(100)]}])
    assert len(unknown_devices(many, set(named_devices(many)), [])) == MAX_UNKNOWN_DEVICES
