"""A user's alert rules in the form in which they judge; `tasks.rules.parsing` reads them.

A rule compares one value of each reading with a threshold, has a condition (`tasks.rules.condition`), or
reports absence (`operator` "absent"). Its `rule_id` is its `id`, or its `key` where it has none. Two rules
with the same `rule_id`, keys and operators are the same rule, whatever else differs: a changed threshold is
judged at the next reading, and an alert goes on. A rule with another key or operator is another rule.

A check of a domain is a rule whose condition is code: it comes with the domain, for every user.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tasks.rules.condition import COMPARE, Judge, Place, judge_of, same_shape
from tasks.rules.devices import Groups, choice, overridden
from tasks.rules.flips import Limit
from tasks.rules.kept import Kept
from tasks.rules.model import DEFAULT_SEVERITY, Judging, Number, Rule, Scalar, Threshold
from tasks.text.paths import MISSING, Path, steps, walk

# The entries kept for one user if the rules differ by device: the choices of devices, rules that overrides
# change, and sets of rules, which weigh as many rules as they have and some for themselves. Some megabytes at
# most.
MAX_DEVICES = 10_000
MAX_CHANGED = 5000
MAX_RULES_OF_SETS = 20_000
_WEIGHT_OF_SET = 10

# The fields of an override that change a condition.
_LIMITS = {"threshold", "clear_threshold"}

Choices = tuple[str | None, ...]

_ALWAYS: Callable[[Any, Any], bool] = lambda _value, _threshold: True  # noqa: E731
_NEVER: Callable[[Any, Any], bool] = lambda _value, _threshold: False  # noqa: E731


def is_number(value: object) -> bool:
    """Whether a value of a payload can be compared: booleans and numeric strings are not numbers."""
    return type(value) is float or type(value) is int


class Facts(NamedTuple):
    """An alert's data about its rule."""

    message: str
    severity: str
    key: str | None
    operator: Judging | None
    threshold: Threshold | None
    digest: str | None = None  # of the condition, if there is one

    def same_rule(self, other: "Facts") -> bool:
        """Whether an alert of one rule goes on under the other; both have the same `rule_id`."""
        same = self.key == other.key and self.operator == other.operator
        return same and same_shape(self.digest, other.digest)

    def same_limits(self, other: "Facts") -> bool:
        """Whether the two have the same thresholds; they are of the same rule."""
        return self.threshold == other.threshold and self.digest == other.digest


class Alert(NamedTuple):
    """A check's result for a record that is not in order."""

    message: str
    severity: str = DEFAULT_SEVERITY
    value: Number | None = None


class Level(NamedTuple):
    """A severity that an alert may rise to, and the threshold beyond which it does."""

    severity: str
    threshold: Number


class Compiled(NamedTuple):
    """A rule, ready to judge. Only a plain comparison uses `compare`, `threshold` and `clear`."""

    rule_id: str
    key: str  # empty for the absence of the whole device
    path: Path | None
    compare: Callable[[Any, Any], bool]
    threshold: Number
    clear: Number
    for_us: int
    facts: Facts
    for_readings: int = 1
    condition: Judge | None = None
    levels: tuple[Level, ...] = ()  # from the lowest up
    exceeds: Callable[[Any, Any], bool] = _NEVER  # compares a value with the threshold of a level
    flapping: Limit | None = None

    def risen(self, before: Facts, value: Scalar | None = None) -> Facts:
        """The rule's facts, with the highest severity of those that `before` has and the value reaches.

        The severity of `before` counts if the rule still has it.
        """
        severity = self.facts.severity
        for level in self.levels:
            if level.severity == before.severity or (
                is_number(value) and self.exceeds(value, level.threshold)
            ):
                severity = level.severity
        return self.facts if severity == self.facts.severity else self.facts._replace(severity=severity)

    def cleared(self, value: Number | None) -> bool:
        """Whether the value ends an alert.

        It does once it would not violate the rule with `clear_threshold` in the place of `threshold`.
        """
        return not self.compare(value, self.clear)


def _absence_waits(rules: Iterable[Rule]) -> dict[str, set[int]]:
    waits: dict[str, set[int]] = {}
    for rule in rules:
        if rule.operator == "absent":
            own = [one.for_seconds for one in (rule.overrides or {}).values()]
            seconds = [rule.for_seconds, *(one for one in own if one is not None)]
            waits.setdefault(rule.key or "", set()).update(-(-_microseconds(one) // 1000) for one in seconds)
    return waits


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


@dataclass(frozen=True)
class RuleSet:
    """All rules of one user, in their order, and their fast form. Two sets are equal if their rules are, and
    the groups of devices that rules may name.

    The checks of a domain come with the rules that are about it (`of`); one with the `rule_id` of a rule
    takes its place.
    """

    rules: tuple[Rule, ...] = ()
    checks: tuple[Compiled, ...] = ()
    groups: Groups = field(default_factory=dict, repr=False)
    # The fast form of each rule, if another set has it: the two share it.
    shared: tuple[Compiled, ...] | None = field(default=None, repr=False, compare=False)
    compiled: tuple[Compiled, ...] = field(init=False, repr=False, compare=False)
    by_id: dict[str, Compiled] = field(init=False, repr=False, compare=False)
    comparisons: tuple[Compiled, ...] = field(init=False, repr=False, compare=False)
    conditions: tuple[tuple[Compiled, Judge], ...] = field(init=False, repr=False, compare=False)
    # The values that are remembered from reading to reading, by their keys.
    remembered: dict[str, Place] = field(init=False, repr=False, compare=False)
    absences: tuple[Compiled, ...] = field(init=False, repr=False, compare=False)
    # Whether the rules judge readings, and not only absence.
    judges_readings: bool = field(init=False, repr=False, compare=False)
    # How long a key may be silent (ms; "" is the device), by each rule, for any device.
    absence_waits: dict[str, set[int]] = field(init=False, repr=False, compare=False)
    # The parts of each comparison that the quick look needs: key, path, operator, threshold.
    _quick: tuple[tuple[str, Path | None, Callable[[Any, Any], bool], Number], ...] = field(
        init=False, repr=False, compare=False
    )
    _of: dict[str, "RuleSet"] = field(init=False, repr=False, compare=False)
    # Whether the rules differ by device; then the choices of each device, and the sets by choices.
    selects: bool = field(init=False, repr=False, compare=False)
    _of_device: Kept[str, Choices] = field(init=False, repr=False, compare=False)
    _of_choices: Kept[Choices, "RuleSet"] = field(init=False, repr=False, compare=False)
    # The rules as overrides change them, by their place and the pattern of the overrides.
    _changed: Kept[tuple[int, str], tuple[Rule, Compiled]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks = {rule.rule_id: rule for rule in self.checks}
        of_all = tuple(_compile(rule) for rule in self.rules) if self.shared is None else self.shared
        object.__setattr__(self, "compiled", of_all)
        compiled = [rule for rule in of_all if rule.rule_id not in checks]
        object.__setattr__(self, "by_id", {rule.rule_id: rule for rule in compiled} | checks)
        absences = tuple(rule for rule in compiled if rule.facts.operator == "absent")
        conditions = tuple((rule, rule.condition) for rule in compiled if rule.condition is not None)
        plain = (r for r in compiled if r.condition is None and r.facts.operator != "absent")
        object.__setattr__(self, "absences", absences)
        object.__setattr__(self, "absence_waits", _absence_waits(self.rules))
        object.__setattr__(self, "conditions", conditions)
        object.__setattr__(self, "comparisons", tuple(plain))
        object.__setattr__(self, "judges_readings", bool(self.comparisons or conditions or self.checks))
        places = {place.key: place for _, judge in conditions for place in judge.remembers}
        object.__setattr__(self, "remembered", places)
        object.__setattr__(self, "_quick", tuple(rule[1:5] for rule in self.comparisons))
        object.__setattr__(self, "_of", {})
        selects = any(rule.devices is not None or rule.overrides for rule in self.rules)
        object.__setattr__(self, "selects", selects)
        object.__setattr__(self, "_of_device", Kept(MAX_DEVICES))
        object.__setattr__(self, "_of_choices", Kept(MAX_RULES_OF_SETS))
        object.__setattr__(self, "_changed", Kept(MAX_CHANGED))

    def of_device(self, source_id: str) -> "RuleSet":
        """The rules that are about a device, with what they have of their own for it."""
        if not self.selects:
            return self
        choices = self._of_device.get(source_id)
        if choices is None:
            choices = tuple(choice(rule, source_id, self.groups) for rule in self.rules)
            self._of_device.put(source_id, choices)
        found = self._of_choices.get(choices)
        if found is None:
            places = [(place, name) for place, name in enumerate(choices) if name is not None]
            pairs = [self._as_chosen(place, name) for place, name in places]
            rules, compiled = tuple(rule for rule, _ in pairs), tuple(fast for _, fast in pairs)
            found = RuleSet(rules, self.checks, shared=compiled)
            self._of_choices.put(choices, found, len(rules) + _WEIGHT_OF_SET)
        return found

    def _as_chosen(self, place: int, pattern: str) -> tuple[Rule, Compiled]:
        rule, compiled = self.rules[place], self.compiled[place]
        if not pattern or rule.overrides is None:
            return rule, compiled
        found = self._changed.get((place, pattern))
        if found is None:
            own = overridden(rule, pattern)
            # Most overrides have the rule's condition, which may be large.
            same = _LIMITS.isdisjoint(rule.overrides[pattern].model_fields_set)
            found = own, _compile(own, compiled.condition if same else None)
            self._changed.put((place, pattern), found)
        return found

    def of(self, domain: str, checks: tuple[Compiled, ...], *, default: bool) -> "RuleSet":
        """The rules that are about a domain, with its checks; those that name none are the default's."""
        found = self._of.get(domain)
        if found is None:
            names = {domain, None} if default else {domain}
            places = [place for place, rule in enumerate(self.rules) if rule.domain in names]
            if len(places) == len(self.rules) and not checks:
                found = self
            else:
                rules = tuple(self.rules[place] for place in places)
                compiled = tuple(self.compiled[place] for place in places)
                found = RuleSet(rules, checks, self.groups, compiled)
            self._of[domain] = found
        return found

    def with_groups(self, groups: Groups) -> "RuleSet":
        """The same rules, about the devices that are in these groups."""
        return RuleSet(self.rules, self.checks, groups, self.compiled)

    @property
    def absent_keys(self) -> frozenset[str]:
        """The keys whose last-seen times the absence rules need, besides the device's own."""
        return frozenset(rule.key for rule in self.absences if rule.key)

    def any_violated(self, payload: dict[str, Any]) -> bool:
        """Whether the values of a payload may violate any rule: the quick look that most readings get.

        It is never wrongly false. A rule that compares with the reading before needs each of its values, and
        counts as violated.
        """
        for key, path, violated, threshold in self._quick:
            value = payload.get(key)
            if value is None and path is not None:
                value = walk(payload, path)
            kind = type(value)
            if (kind is float or kind is int) and violated(value, threshold):
                return True
        if self.conditions:
            return self._conditions_may_matter(payload)
        return False

    def _conditions_may_matter(self, payload: dict[str, Any]) -> bool:
        # Apart, because a generator that uses the payload makes every access to it slower.
        return any(judge.may_matter(payload) for _, judge in self.conditions)


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


def _compile(rule: Rule, condition: Judge | None = None) -> Compiled:
    """A rule in its fast form; `condition` is that of the rule, where it is known."""
    compiled = Compiled(
        rule_id=rule.rule_id,
        key=rule.key or "",
        path=None if rule.key is None else steps(rule.key),
        compare=_NEVER,
        threshold=0,
        clear=0,
        for_us=_microseconds(rule.for_seconds),
        facts=Facts(rule.message, rule.severity, rule.key, rule.operator, rule.threshold),
        for_readings=rule.for_readings,
    )
    if rule.flapping is not None:
        limit = Limit(rule.flapping.changes, _microseconds(rule.flapping.minutes * 60))
        compiled = compiled._replace(flapping=limit)
    if rule.operator == "absent":
        return compiled
    if rule.escalate:
        levels = tuple(Level(step.severity, step.threshold) for step in rule.escalate)
        compiled = compiled._replace(levels=levels, exceeds=COMPARE[rule.operator or ""])
    if rule.operator in COMPARE and is_number(threshold := rule.threshold) and rule.change is None:
        assert isinstance(threshold, int | float)
        clear = threshold if rule.clear_threshold is None else rule.clear_threshold
        return compiled._replace(compare=COMPARE[rule.operator], threshold=threshold, clear=clear)
    judge = condition or judge_of(rule)
    return compiled._replace(condition=judge, facts=compiled.facts._replace(digest=judge.digest))
