"""Rules for some devices, and what a rule has of its own for them."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules import rule as rule_module
from tasks.rules.condition import Judge
from tasks.rules.devices import Groups, matches, names_groups
from tasks.rules.machine import rules_changed
from tasks.rules.model import Rule
from tasks.rules.parsing import InvalidRules, parse_rules
from tasks.rules.rule import Compiled, check
from tasks.rules.warnings import empty_groups
from tests.unit.tasks.rules.device import Device

HOT = {"key": "t", "operator": ">", "threshold": 30, "message": "hot"}
SILENT = {"operator": "absent", "for_seconds": 60, "message": "silent"}


def threshold(device_id: str, **fields: Any) -> Any:
    """The threshold of the rule for a device; None if it is not about it."""
    rules = parse_rules([HOT | fields]).of_device(device_id).rules
    return rules[0].threshold if rules else None


def faults(rule: dict[str, Any]) -> dict[str, str]:
    """The faults of a rule, by path."""
    with pytest.raises(InvalidRules) as caught:
        parse_rules([rule])
    return {error["path"]: error["message"] for error in caught.value.errors}


@pytest.mark.parametrize(
    ("devices", "about", "not_about"),
    [
        ("lab1", ["lab1"], ["lab", "lab11", "xlab1"]),
        ("freezer-*", ["freezer-1", "freezer-"], ["freezer", "a-freezer-1"]),
        (["freezer-*", "lab1"], ["freezer-2", "lab1"], ["lab2"]),
        ("*-north-*", ["a-north-1", "-north-"], ["north", "a-north"]),
        ("a*a", ["aa", "aba"], ["a"]),
        ("*", ["", "x"], []),
    ],
)
def test_a_rule_may_be_about_some_devices(devices: Any, about: list[str], not_about: list[str]) -> None:
    """By a name, by a pattern, or by several; without `devices` it is about all."""
    assert [threshold(one, devices=devices) for one in about] == [30] * len(about)
    assert [threshold(one, devices=devices) for one in not_about] == [None] * len(not_about)
    assert threshold("any") == 30


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_patterns_match_as_file_names_do(pattern: str, name: str) -> None:
    """`*` stands for any characters, and nothing else stands for others."""

    def plainly(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return any(plainly(pattern[1:], name[cut:]) for cut in range(len(name) + 1))
        return name[:1] == pattern[0] and plainly(pattern[1:], name[1:])

    assert matches(pattern, name) == plainly(pattern, name)


def test_a_pattern_of_many_stars_costs_little() -> None:
    """Whatever a user writes."""
    begun = time.process_time()
    assert not matches("*a" * 64 + "b", "a" * 128)
    assert time.process_time() - begun < 1


def test_a_device_may_have_a_threshold_of_its_own() -> None:
    """A name counts before a pattern, a longer pattern before a shorter one."""
    own = {"lab*": {"threshold": 40}, "lab-n*": {"threshold": 50}, "lab-north": {"threshold": 60}}
    found = [threshold(one, overrides=own) for one in ("x", "lab1", "lab-ne", "lab-north")]
    assert found == [30, 40, 50, 60]
    backwards = dict(reversed(own.items()))
    assert [threshold(one, overrides=backwards) for one in ("lab-ne", "lab-north")] == [50, 60]


def test_other_fields_may_be_overridden_too() -> None:
    """Values that are not overridden are the rule's."""
    own = {"d": {"severity": "critical", "for_seconds": 60, "clear_threshold": 20}}
    (rule,) = parse_rules([HOT | {"overrides": own}]).of_device("d").rules
    assert (rule.threshold, rule.severity, rule.for_seconds, rule.clear_threshold) == (30, "critical", 60, 20)


def test_a_silence_is_looked_for_after_the_waits_of_all_devices() -> None:
    """Also after those of overrides; a rule that is not about absence has none."""
    own = {"a": {"for_seconds": 5}, "b*": {"for_seconds": 0.0015 + 600}, "c": {"severity": "critical"}}
    rules = parse_rules(
        [
            SILENT | {"overrides": own},
            SILENT | {"key": "battery", "for_seconds": 70},
            HOT | {"for_seconds": 3},
        ]
    )
    assert rules.absence_waits == {"": {60_000, 5_000, 600_002}, "battery": {70_000}}
    assert parse_rules([HOT]).absence_waits == {}


def test_devices_of_one_kind_share_a_rule_set() -> None:
    """Thousands of devices cost as many rule sets as there are kinds; rules for all cost none."""
    rules = parse_rules([HOT | {"overrides": {"a*": {"threshold": 5}}}])
    assert rules.of_device("a1") is rules.of_device("a2")
    assert rules.of_device("b1") is not rules.of_device("a1")
    plain = parse_rules([HOT])
    assert plain.of_device("a1") is plain


def test_an_alert_goes_on_under_a_changed_override_and_ends_without_its_device() -> None:
    """As with a changed threshold, and a removed rule."""
    device = Device()
    device.rules = parse_rules([HOT | {"devices": "d*"}]).of_device("d1")
    assert device.send(31, 0) == ["TRIGGERED"]
    device.rules = parse_rules([HOT | {"overrides": {"d1": {"threshold": 29}}}]).of_device("d1")
    assert device.send(29.5, 1) == []
    device.rules = parse_rules([HOT | {"devices": "e*"}]).of_device("d1")
    assert device.send(31, 2) == ["RESOLVED"]
    assert device.last.reason == "rule_removed"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"devices": []}, "devices"),
        ({"devices": 5}, "devices"),
        ({"devices": ["a", ""]}, "devices"),
        ({"devices": "x" * 129}, "devices"),
        ({"overrides": []}, "overrides"),
        ({"overrides": {"": {"threshold": 1}}}, "overrides."),
        ({"overrides": {"d": 5}}, "overrides.d"),
        ({"overrides": {"d": {"message": "m"}}}, "overrides.d.message"),
        ({"overrides": {"d": {"treshold": 1}}}, "overrides.d.treshold"),
        ({"overrides": {"d": {"threshold": "8"}}}, "overrides.d.threshold"),
        ({"overrides": {"d": {"threshold": [8]}}}, "overrides.d.threshold"),
        ({"overrides": {"d": {"clear_threshold": 31}}}, "overrides.d.clear_threshold"),
        ({"overrides": {"d": {"for_seconds": -1}}}, "overrides.d.for_seconds"),
    ],
)
def test_a_wrong_selection_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    """Null is like leaving a field out."""
    assert faults(HOT | fields).keys() == {f"rules.0.{path}"}
    parse_rules([HOT | {"devices": None, "overrides": {"d": {"threshold": None}}}])


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_a_device_has_no_absence_without_a_wait(seconds: float) -> None:
    """As the rule itself must wait at least a second, so must what it has for some devices."""
    wrong = {"d": {"for_seconds": seconds}, "e": {"for_seconds": 1}}
    assert faults(SILENT | {"overrides": wrong}).keys() == {"rules.0.overrides.d.for_seconds"}
    parse_rules([HOT | {"overrides": wrong}])


def test_a_group_has_no_threshold_to_override() -> None:
    """Its severity has."""
    group = {"id": "g", "message": "m", "all": [{"key": "t", "operator": ">", "threshold": 3}]}
    assert faults(group | {"overrides": {"d": {"threshold": 3}}}).keys() == {"rules.0.overrides.d.threshold"}
    parse_rules([group | {"overrides": {"d": {"severity": "critical"}}}])


def test_sets_of_rules_for_devices_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many devices have thresholds of their own, and the rules of each stay right."""
    monkeypatch.setattr("tasks.rules.rule.MAX_RULES_OF_SETS", 3 * (1 + 10))
    monkeypatch.setattr("tasks.rules.rule.MAX_DEVICES", 5)
    monkeypatch.setattr("tasks.rules.rule.MAX_CHANGED", 4)
    rules = parse_rules([HOT | {"overrides": {f"d{n}": {"threshold": n} for n in range(9)}}])
    always = rules.of_device("d0")
    for _ in range(2):
        for n in range(12):
            assert rules.of_device(f"d{n}").rules[0].threshold == (n if n < 9 else 30)
            # A value that is used again and again stays, whatever comes beside it.
            assert rules.of_device("d0") is always
            assert len(rules._of_choices) <= 3
            assert len(rules._of_device) <= 5
            assert len(rules._changed) <= 4


def test_devices_share_the_rules_that_they_have_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand devices with a threshold of their own have one rule each that is not every other one's."""
    compiled: list[str] = []

    def counted(rule: Rule, condition: Judge | None = None) -> Compiled:
        compiled.append(rule.rule_id)
        return compile_rule(rule, condition)

    compile_rule = rule_module._compile
    monkeypatch.setattr(rule_module, "_compile", counted)
    wide = {"message": "m", "any": [{"key": f"k{n}", "operator": ">", "threshold": n} for n in range(16)]}
    severe = wide | {"id": "severe", "overrides": {f"d{n}": {"severity": str(n)} for n in range(1000)}}
    own = HOT | {"overrides": {f"d{n}": {"threshold": n} for n in range(1000)}}
    rules = parse_rules([*(wide | {"id": f"w{n}"} for n in range(20)), severe, own])
    assert len(compiled) == 22
    sets = [rules.of_device(f"d{n}").of("telemetry", (), default=True) for n in range(1000)]
    assert len(compiled) == 22 + 2 * 1000
    for n, found in enumerate(sets):
        shared = {rule_id for rule_id, one in found.by_id.items() if one is rules.by_id[rule_id]}
        assert len(shared) == 20
        assert found.by_id["severe"].condition is rules.by_id["severe"].condition
        assert found.by_id["severe"].facts.severity == str(n)
        assert found.by_id["t"].threshold == n
    others = (
        rules.with_groups({"g": frozenset({"d1"})}),
        rules.of("telemetry", (check("odd"),), default=True),
    )
    assert len(compiled) == 22 + 2 * 1000
    assert all(one.by_id["w3"] is rules.by_id["w3"] for one in others)


def test_an_override_of_another_type_is_another_condition() -> None:
    """True is not 1."""
    rules = parse_rules([HOT | {"operator": "==", "threshold": True, "overrides": {"d": {"threshold": 1}}}])
    for device, value in (("e", True), ("d", 1)):
        found = rules.of_device(device)
        assert found.any_violated({"t": value})
        assert not found.any_violated({"t": 1 if value is True else True})


GROUPS: Groups = {"cold": frozenset({"f1", "f2"}), "new": frozenset({"f2", "f3"})}


def of_group(device_id: str, **fields: Any) -> Any:
    """The threshold of the rule for a device, with the groups; None if it is not about it."""
    rules = parse_rules([HOT | fields]).with_groups(GROUPS).of_device(device_id).rules
    return rules[0].threshold if rules else None


def test_a_rule_may_be_about_a_group() -> None:
    """Its devices, and a device whose own name begins with the sign; a group that is not there has none."""
    about = ["f1", "f2", "f3", "lab1", "@cold", "cold"]
    assert [of_group(one, devices="@cold") is not None for one in about] == [
        True,
        True,
        *[False] * 2,
        True,
        False,
    ]
    assert [of_group(one, devices=["@cold", "lab*"]) is not None for one in about[:4]] == [
        True,
        True,
        False,
        True,
    ]
    assert [of_group(one, devices="@warm") for one in about] == [None] * 6
    assert [of_group(one, devices="@co*") is not None for one in about] == [*[False] * 4, True, False]


def test_a_group_may_have_a_threshold_of_its_own() -> None:
    """A name counts before groups, the first group by the alphabet before others, groups before patterns."""
    own = {"@new": 50, "@cold": 40, "f*": 60, "f1": 70}
    overrides = {pattern: {"threshold": limit} for pattern, limit in own.items()}
    found = [of_group(one, overrides=overrides) for one in ("f1", "f2", "f3", "f4", "x")]
    assert found == [70, 40, 50, 60, 30]


def test_what_leaves_a_group_has_its_alert_resolved() -> None:
    """As where the rule does not name the device any more, and without a reading."""
    rules = parse_rules([HOT | {"devices": "@cold"}])
    device = Device()
    device.rules = rules.with_groups({"cold": frozenset({"d"})}).of_device("d")
    assert device.send(40, at=1) == ["TRIGGERED"]
    left = rules.with_groups({"cold": frozenset({"e"})}).of_device("d")
    _, changes = rules_changed(device.state, left, 2_000)
    assert [(change.status, change.reason) for change in changes] == [("RESOLVED", "rule_removed")]


_names = st.sampled_from(["@a", "@b", "@c", "d1", "d*", "d2"])


@given(
    st.none() | st.lists(_names, min_size=1, max_size=3),
    st.sets(_names, max_size=3),
    st.dictionaries(st.sampled_from("abc"), st.frozensets(st.sampled_from(["d1", "d2", "e"]), max_size=2)),
)
def test_a_group_is_like_its_devices_written_out(
    devices: list[str] | None, overrides: set[str], groups: dict[str, frozenset[str]]
) -> None:
    """A rule about a group is about the same devices as one that lists them; so are its overrides."""

    def plainly(device_id: str) -> float | None:
        members = {f"@{name}": ids for name, ids in groups.items()}
        written = [one for name in devices or ["*"] for one in (name, *members.get(name, ()))]
        if not any(matches(one, device_id) for one in written):
            return None
        ranked = [
            *(name for name in overrides if name == device_id),
            *sorted(name for name in overrides if device_id in members.get(name, ())),
            *(name for name in sorted(overrides) if matches(name, device_id)),
        ]
        return float(limits[ranked[0]]) if ranked else 30.0

    limits = {name: number for number, name in enumerate(sorted(overrides))}
    rule = HOT | {"overrides": {name: {"threshold": limit} for name, limit in limits.items()}}
    if devices is not None:
        rule |= {"devices": devices}
    rules = parse_rules([rule]).with_groups(groups)
    for device_id in ("d1", "d2", "e", "@a"):
        found = rules.of_device(device_id).rules
        assert (float(found[0].threshold) if found else None) == plainly(device_id)  # type: ignore[arg-type]


def test_a_group_without_devices_is_warned_of() -> None:
    """With the path of each place, and the name that was perhaps meant."""
    rules = parse_rules([HOT, HOT | {"id": "a", "devices": ["@cold", "@cald"], "overrides": {"@x": {}}}])
    assert names_groups(rules.rules)
    assert not names_groups(parse_rules([HOT | {"devices": ["a", "b@c"]}]).rules)
    assert empty_groups(rules.with_groups(GROUPS)) == [
        {
            "path": "rules.1.devices[1]",
            "message": "no device is in the group `cald`; did you mean `cold`?",
        },
        {"path": "rules.1.overrides.@x", "message": "no device is in the group `x`"},
    ]
    assert [one["path"] for one in empty_groups(parse_rules([HOT | {"devices": "@y"}]))] == [
        "rules.0.devices"
    ]
    assert empty_groups(parse_rules([HOT | {"devices": [f"@{n}" for n in range(100)]}]))[20:] == []
