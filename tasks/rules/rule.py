"""A user's alert rules in the form in which they judge; `tasks.rules.parsing` reads them.

A rule compares one value of each reading with a threshold, or reports absence (`operator` "absent"). Its
`rule_id` is its `id`, or its `key` where it has none. Two rules with the same `rule_id`, `key` and
`operator` are the same rule, whatever else differs: a changed threshold is judged at the next reading,
and an alert goes on. A rule with another key or operator is another rule.

A check of a domain is a rule whose condition is code: it comes with the domain, for every user.
"""

import operator as compare
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tasks.rules.model import (
    DEFAULT_SEVERITY,
    Judging,
    Number,
    Operator,
    Rule,
)
from tasks.text.paths import MISSING, Path, steps, walk

_ALWAYS: Callable[[Any, Any], bool] = lambda _value, _threshold: True  # noqa: E731
_NEVER: Callable[[Any, Any], bool] = lambda _value, _threshold: False  # noqa: E731
_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    ">": compare.gt,
    "<": compare.lt,
    ">=": compare.ge,
    "<=": compare.le,
    "==": compare.eq,
    "!=": compare.ne,
    "absent": _NEVER,
}


def is_number(value: object) -> bool:
    """Whether a value of a payload can be compared: booleans and numeric strings are not numbers."""
    return type(value) is float or type(value) is int


class Facts(NamedTuple):
    """An alert's data about its rule."""

    message: str
    severity: str
    key: str | None
    operator: Judging
    threshold: Number | None

    def same_rule(self, other: "Facts") -> bool:
        """Whether an alert of one rule goes on under the other; both have the same `rule_id`."""
        return self.key == other.key and self.operator == other.operator


class Alert(NamedTuple):
    """A check's result for a record that is not in order."""

    message: str
    severity: str = DEFAULT_SEVERITY
    value: Number | None = None


class Compiled(NamedTuple):
    """A rule, ready to judge. An absence uses none of `compare`, `threshold` and `clear`."""

    rule_id: str
    key: str  # empty for the absence of the whole device
    path: Path | None
    compare: Callable[[Any, Any], bool]
    threshold: Number
    clear: Number
    for_us: int
    facts: Facts

    def cleared(self, value: Number | None) -> bool:
        """Whether the value ends an alert.

        It does once it would not violate the rule with `clear_threshold` in the place of `threshold`.
        """
        return not self.compare(value, self.clear)


@dataclass(frozen=True)
class RuleSet:
    """All rules of one user, in their order, and their fast form. Two sets are equal if their rules are.

    The checks of a domain come with the rules that are about it (`of`); one with the `rule_id` of a rule
    takes its place.
    """

    rules: tuple[Rule, ...] = ()
    checks: tuple[Compiled, ...] = ()
    by_id: dict[str, Compiled] = field(init=False, repr=False, compare=False)
    comparisons: tuple[Compiled, ...] = field(init=False, repr=False, compare=False)
    absences: tuple[Compiled, ...] = field(init=False, repr=False, compare=False)
    # What the quick look needs of each comparison: key, path, operator, threshold.
    _quick: tuple[tuple[str, Path | None, Callable[[Any, Any], bool], Number], ...] = field(
        init=False, repr=False, compare=False
    )
    _of: dict[str, "RuleSet"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks = {rule.rule_id: rule for rule in self.checks}
        compiled = [_compile(rule) for rule in self.rules if rule.rule_id not in checks]
        object.__setattr__(self, "by_id", {rule.rule_id: rule for rule in compiled} | checks)
        absent: dict[bool, list[Compiled]] = {True: [], False: []}
        for rule in compiled:
            absent[rule.facts.operator == "absent"].append(rule)
        object.__setattr__(self, "absences", tuple(absent[True]))
        object.__setattr__(self, "comparisons", tuple(absent[False]))
        object.__setattr__(self, "_quick", tuple(rule[1:5] for rule in self.comparisons))
        object.__setattr__(self, "_of", {})

    def of(self, domain: str, checks: tuple[Compiled, ...], *, default: bool) -> "RuleSet":
        """The rules that are about a domain, with its checks; those that name none are the default's."""
        found = self._of.get(domain)
        if found is None:
            names = {domain, None} if default else {domain}
            rules = tuple(rule for rule in self.rules if rule.domain in names)
            found = self if rules == self.rules and not checks else RuleSet(rules, checks)
            self._of[domain] = found
        return found

    @property
    def absent_keys(self) -> frozenset[str]:
        """The keys whose last-seen times the absence rules need, besides the device's own."""
        return frozenset(rule.key for rule in self.absences if rule.key)

    def any_violated(self, payload: dict[str, Any]) -> bool:
        """Whether the values of a payload violate any comparison: the quick look that most readings get."""
        for key, path, violated, threshold in self._quick:
            value = payload.get(key, MISSING)
            if value is MISSING and path is not None:
                value = walk(payload, path)
            kind = type(value)
            if (kind is float or kind is int) and violated(value, threshold):
                return True
        return False


NO_RULES = RuleSet()


def find(payload: dict[str, Any], rule: Compiled) -> Any:
    """The value that a rule is about, or `MISSING`."""
    value = payload.get(rule.key, MISSING)
    return value if value is not MISSING or rule.path is None else walk(payload, rule.path)


def check(rule_id: str) -> Compiled:
    """A check as a rule. Its name stands in for its message until it returns an alert."""
    return _check(rule_id, Facts(rule_id, DEFAULT_SEVERITY, None, "check", None), violated=False)


def checked(rule: Compiled, alert: Alert | None, before: Facts | None) -> Compiled:
    """The check as a rule that anything violates, or nothing does; then it has the facts of before."""
    if alert is None:
        return _check(rule.rule_id, before or rule.facts, violated=False)
    return _check(
        rule.rule_id, rule.facts._replace(message=alert.message, severity=alert.severity), violated=True
    )


def _check(rule_id: str, facts: Facts, *, violated: bool) -> Compiled:
    return Compiled(rule_id, "", None, _ALWAYS if violated else _NEVER, 0, 0, 0, facts)


def _compile(rule: Rule) -> Compiled:
    threshold = 0 if rule.threshold is None else rule.threshold
    return Compiled(
        rule_id=rule.rule_id,
        key=rule.key or "",
        path=None if rule.key is None else steps(rule.key),
        compare=_COMPARE[rule.operator],
        threshold=threshold,
        clear=threshold if rule.clear_threshold is None else rule.clear_threshold,
        for_us=round(rule.for_seconds * 1_000_000),
        facts=Facts(rule.message, rule.severity, rule.key, rule.operator, rule.threshold),
    )
