"""Warnings about rules that are valid, and can never be violated by readings like the recent ones. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from tasks.rules.condition import Place, kind_of
from tasks.rules.devices import SIGN, patterns
from tasks.rules.model import GROUPS, ORDERING, Condition, Fault, Rule
from tasks.rules.parsing import MAX_FAULTS, at, suggestion
from tasks.rules.rule import RuleSet
from tasks.text.paths import has_stray_quotes, steps
from tasks.text.wording import shorten

# Each takes a search for the name that was meant.
MAX_EMPTY_GROUPS = 20
MAX_UNKNOWN_DEVICES = 20

_PLURAL = {"text": "strings", "boolean": "booleans", "number": "numbers"}


def warnings(
    rules: RuleSet,
    recent: Mapping[str | None, Sequence[dict[str, Any]]],
    partial: Collection[str | None] = (),
) -> list[Fault]:
    """One warning for each comparison that none of the recent payloads could violate, with its path.

    `recent` has payloads by the `domain` of rules. Without any, only the rules themselves are looked at. Of
    the `partial` domains they may lack what the readings had, so that a missing value proves nothing.
    """
    found: list[Fault] = [
        {"path": at(f"rules.{index}", (*place, field)), "message": message}
        for index, rule in enumerate(rules.rules)
        for place, one in _comparisons(rule, ())
        for field, message in _of(one, recent.get(rule.domain, ()), partial=rule.domain in partial)
    ]
    return found[:MAX_FAULTS]


def empty_groups(rules: RuleSet, places: Sequence[int] | None = None) -> list[Fault]:
    """One warning for each place where a rule names a group that has no devices, with its path.

    `places` has the place of each rule in its document, if that is not its place in the set.
    """
    found = _empty_groups(rules, range(len(rules.rules)) if places is None else places)
    return list(islice(found, MAX_EMPTY_GROUPS))


def _empty_groups(rules: RuleSet, places: Sequence[int]) -> Iterator[Fault]:
    for index, rule in zip(places, rules.rules, strict=True):
        for place, pattern in _named(rule):
            name = pattern.removeprefix(SIGN)
            if name != pattern and not rules.groups.get(name):
                near = suggestion(name, list(rules.groups))
                message = f"no device is in the group `{shorten(name, 64)}`{near}"
                yield {"path": at(f"rules.{index}", place), "message": message}


class Named(NamedTuple):
    """The id of a device, or a pattern, in a rule about a domain; None is the default one."""

    domain: str | None
    pattern: str


def named_devices(rules: RuleSet) -> list[Named]:
    """The devices and patterns that rules are about, each once; no groups, and not `*`, which is any."""
    found = (Named(rule.domain, pattern) for rule in rules.rules for _, pattern in _named(rule))
    return list(
        dict.fromkeys(one for one in found if one.pattern != "*" and not one.pattern.startswith(SIGN))
    )


def unknown_devices(rules: RuleSet, unknown: Collection[Named], known: Sequence[str]) -> list[Fault]:
    """One warning for each place where a rule is about a device or pattern that is `unknown`, with its path.

    `known` has devices that may have been meant.
    """
    return list(islice(_unknown_devices(rules, unknown, list(known)), MAX_UNKNOWN_DEVICES))


def _unknown_devices(rules: RuleSet, unknown: Collection[Named], known: list[str]) -> Iterator[Fault]:
    for index, rule in enumerate(rules.rules):
        for place, pattern in _named(rule):
            if Named(rule.domain, pattern) in unknown:
                fits = "fits" if "*" in pattern else "is called"
                near = "" if "*" in pattern else suggestion(pattern, known)
                message = f"no known device {fits} `{shorten(pattern, 64)}`; the rule waits for one{near}"
                yield {"path": at(f"rules.{index}", place), "message": message}


def _named(rule: Rule) -> Iterator[tuple[tuple[str | int, ...], str]]:
    listed = isinstance(rule.devices, list)
    for index, pattern in enumerate(patterns(rule.devices or [])):
        yield ("devices", index) if listed else ("devices",), pattern
    for pattern in rule.overrides or ():
        yield ("overrides", pattern), pattern


def shape(value: Any) -> Any:
    """The parts of a payload that warnings see: its names and the types of their values. Hashable."""
    if isinstance(value, dict):
        return tuple(sorted((name, shape(one)) for name, one in value.items() if one is not None))
    if isinstance(value, list):
        return "array", *map(shape, value)
    return None if value is None else kind_of(value)


def _comparisons(
    condition: Condition, place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Condition]]:
    groups = [(name, members) for name in GROUPS if (members := getattr(condition, name)) is not None]
    if not groups:
        yield place, condition
    for name, members in groups:
        for index, one in enumerate(members):
            yield from _comparisons(one, (*place, name, index))


def _of(one: Condition, payloads: Sequence[dict[str, Any]], *, partial: bool) -> Iterator[tuple[str, str]]:
    for field in ("key", "threshold_key"):
        key = getattr(one, field)
        if key is not None and has_stray_quotes(key):
            yield field, 'a name in quotes needs one at each end, as in meter."1.8.0"'
        elif key is not None and payloads and not partial and not _kinds(key, payloads):
            yield field, f"no recent reading of a device has a value at `{shorten(key, 60)}`"
    if one.key is None or one.operator == "absent":
        return
    found, wanted = _kinds(one.key, payloads), _wanted(one, payloads)
    if found and wanted and not found & wanted:
        have, want = (" or ".join(sorted(_PLURAL[kind] for kind in kinds)) for kinds in (found, wanted))
        field = "operator" if one.threshold is None else "threshold"
        sentence = f"never matches: the values of `{shorten(one.key, 60)}` are {have}, this compares {want}"
        if found == {"text"} and wanted == {"number"}:
            sentence += "; a number in quotes is not a number"
        yield field, sentence


def _wanted(one: Condition, payloads: Sequence[dict[str, Any]]) -> set[str]:
    """The types of values that a comparison can hold for; none if it may be any."""
    if one.operator in ORDERING or one.change is not None:
        return {"number"}
    if one.threshold_key is not None:
        return _kinds(one.threshold_key, payloads)
    if isinstance(one.threshold, list):
        return {kind_of(value) for value in one.threshold}
    return set() if one.threshold is None else {kind_of(one.threshold)}


def _kinds(key: str, payloads: Sequence[dict[str, Any]]) -> set[str]:
    place = Place(key, steps(key))
    return {kind_of(value) for payload in payloads if (value := place.find(payload)) is not None}
