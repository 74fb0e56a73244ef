"""A user's alert rules: what they must look like, every fault of a document at once, and their fast form.

A rule compares one value of each reading with a threshold, or reports absence (`operator` "absent"). Its
`rule_id` is its `id`, or its `key` where it has none. Two rules with the same `rule_id`, `key` and
`operator` are the same rule, whatever else differs: a changed threshold is judged at the next reading,
and an alert goes on. A rule with another key or operator is another rule.

A check of a domain is a rule whose condition is code: it comes with the domain, for every user.
"""

import operator as compare
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from tasks.rules.model import (
    DEFAULT_SEVERITY,
    EXPECTED,
    FOR_COMPARING,
    MAX_RULES,
    MIN_ABSENT_SECONDS,
    NOT_FOR_ABSENT,
    Judging,
    Number,
    Operator,
    Rule,
    id_of,
)
from tasks.text.paths import MISSING, Path, steps, walk
from tasks.text.wording import describe, printable, shorten

Fault = dict[Literal["path", "message"], str]

MAX_DOCUMENT_BYTES = 262_144
# More fields than a rule has: each unknown one is compared with all known ones.
MAX_FIELDS = 32
# Enough faults to act on at once: a nonsense document must not cause an answer of megabytes.
MAX_FAULTS = 200

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
_MEANT = {"=": "==", "=>": ">=", "=<": "<=", "<>": "!=", "gt": ">", "lt": "<", "gte": ">=", "lte": "<="}
_MEANT |= {"ge": ">=", "le": "<=", "eq": "==", "ne": "!=", "missing": "absent", "silent": "absent"}


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


class InvalidDocument(ValueError):
    """A user's document is invalid: `errors` has every fault, with its path and a sentence."""

    def __init__(self, errors: list[Fault]) -> None:
        super().__init__("; ".join(f"{error['path']}: {error['message']}" for error in errors[:3]))
        self.errors = errors


class InvalidRules(InvalidDocument):
    """The document is not a valid rule set; nothing of it may be used."""


class Sifted(NamedTuple):
    """The valid rules of a document, with their places in it, and the faults of the rest."""

    rules: RuleSet
    places: tuple[int, ...]
    faults: list[Fault]


def parse_rules(document: Any) -> RuleSet:
    """The rule set of a document: JSON bytes, or parsed JSON: `{"rules": […]}`, or the array alone.

    A null field counts as missing. Raises `InvalidRules` with every fault at once.
    """
    rules, faults = _array_of_rules(document)
    if len(rules) > MAX_RULES:
        raise InvalidRules([*faults, _too_many(rules)])
    found = _sift(rules)
    if faults or found.faults:
        raise InvalidRules(_at_most([*faults, *found.faults]))
    return found.rules


def sift_rules(document: Any) -> Sifted:
    """The valid rules of a stored document: rules in the table count as far as they are valid.

    Always the same for the same document. If rules share a `rule_id`, the first one counts; if there are too
    many rules, the first ones do.
    """
    try:
        rules, faults = _array_of_rules(document)
    except InvalidRules as error:
        return Sifted(NO_RULES, (), error.errors)
    if len(rules) > MAX_RULES:
        faults.append(_too_many(rules))
    found = _sift(rules[:MAX_RULES])
    return found._replace(faults=_at_most([*faults, *found.faults]))


def _sift(rules: list[Any]) -> Sifted:
    valid: dict[int, Rule] = {}
    faults: list[Fault] = []
    owners: dict[str, int] = {}
    for index, raw in enumerate(rules):
        rule, wrong = _parse(index, raw, owners)
        faults += wrong
        if rule is not None and not wrong:
            valid[index] = rule
    return Sifted(RuleSet(tuple(valid.values())), tuple(valid), faults)


def _parse(index: int, raw: Any, owners: dict[str, int]) -> tuple[Rule | None, list[Fault]]:
    """One rule, and all its faults; `owners` has the places of the rules before it by their rule_ids."""
    path, rule = f"rules.{index}", None
    if type(raw) is not dict:
        return None, [_fault(path, f"must be an object, got {describe(raw)}")]
    if len(raw) > MAX_FIELDS:
        return None, [_fault(path, f"has {len(raw)} fields; a rule has at most {len(EXPECTED)}")]
    given = {name: value for name, value in raw.items() if value is not None or name not in EXPECTED}
    wrong: set[str] = set()
    faults: list[Fault] = []
    try:
        rule = Rule.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        wrong = {str(detail["loc"][0]) for detail in details if detail["loc"]}
        faults = [_field_fault(path, detail) for detail in details]
    faults += [_fault(f"{path}.{name}", message) for name, message in _together(given, wrong)]
    named = given.keys() & {"id", "key"}
    if not wrong & {"id", "key"} and (named or given.get("operator") == "absent"):
        own_id = id_of(given.get("id"), given.get("key"))
        if owners.setdefault(own_id, index) != index:
            at = f"{path}.{'id' if 'id' in given else 'key'}" if named else path
            name, owner = shorten(own_id, 60), owners[own_id]
            message = f"`{name}` is already the rule_id of rules.{owner}; give one an `id` of its own"
            faults.append(_fault(at, message))
    return rule, faults


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


def suggestion(text: str, known: list[str]) -> str:
    """The end of a sentence about a misspelt name: `; did you mean …?`, or nothing."""
    near = get_close_matches(text.lower()[:64], known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


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


def _too_many(rules: list[Any]) -> Fault:
    return _fault("rules", f"at most {MAX_RULES} rules are allowed, got {len(rules)}")


def _at_most(faults: list[Fault]) -> list[Fault]:
    more = len(faults) - MAX_FAULTS
    return faults[:MAX_FAULTS] + ([_fault("rules", f"and {more} more errors")] if more > 0 else [])


def _array_of_rules(document: Any) -> tuple[list[Any], list[Fault]]:
    if isinstance(document, bytes | bytearray | memoryview | str):
        if len(document) > MAX_DOCUMENT_BYTES:
            message = f"at most {MAX_DOCUMENT_BYTES} bytes are allowed, got {len(document)}"
            raise InvalidRules([_fault("rules", message)])
        try:
            document = from_json(bytes(document) if isinstance(document, memoryview) else document)
        except (ValueError, TypeError) as error:  # the latter for text with lone surrogates
            raise InvalidRules([_fault("rules", f"the document must be JSON: {error}")]) from None
    faults: list[Fault] = []
    if type(document) is dict:
        others = [name for name in document if name != "rules"]
        faults = [
            _fault(printable(name), f"is no field of the document{suggestion(name, ['rules'])}")
            for name in others[:MAX_FAULTS]
        ]
        document = document.get("rules", MISSING)
    if type(document) is not list:
        got = "nothing" if document is MISSING else describe(document)
        faults.append(_fault("rules", f'must be an array of rules, as in {{"rules": […]}}, got {got}'))
        raise InvalidRules(faults)
    return document, faults


def _field_fault(path: str, detail: ErrorDetails) -> Fault:
    if not detail["loc"]:
        return _fault(path, "has a field whose name is no text")
    name = str(detail["loc"][0])
    at = f"{path}.{printable(name)}"
    if detail["type"] == "extra_forbidden":
        return _fault(at, f"is no field of a rule{suggestion(name, list(Rule.model_fields))}")
    if detail["type"] == "missing":
        return _fault(at, f"is missing; it must be {EXPECTED[name]}")
    message = f"must be {EXPECTED[name]}, got {describe(detail['input'])}"
    if name == "operator" and isinstance(detail["input"], str):
        meant = _MEANT.get(detail["input"].strip().lower())
        message += f"; did you mean `{meant}`?" if meant else suggestion(detail["input"], ["absent"])
    return _fault(at, message)


def _together(given: dict[str, Any], wrong: set[str]) -> list[tuple[str, str]]:
    """The faults of fields that are right alone, as (field, sentence).

    If the operator is missing or wrong, a comparison was most likely meant.
    """
    operator = None if "operator" in wrong else given.get("operator")
    faults: list[tuple[str, str]] = []
    if operator == "absent":
        faults = [
            (name, "means nothing for the operator absent; how long to wait is `for_seconds`")
            for name in NOT_FOR_ABSENT
            if name in given
        ]
        if "for_seconds" not in wrong and given.get("for_seconds", 0) < MIN_ABSENT_SECONDS:
            sentence = f"must be at least {MIN_ABSENT_SECONDS} for the operator absent, which waits that long"
            faults.append(("for_seconds", sentence))
        return faults
    for name in FOR_COMPARING:
        if name not in given:
            faults.append((name, f"is missing; it must be {EXPECTED[name]}"))
    if "clear_threshold" in given and operator is not None and not wrong & {"threshold", "clear_threshold"}:
        clear, threshold = given["clear_threshold"], given.get("threshold", given["clear_threshold"])
        if operator in {"==", "!="}:
            faults.append(("clear_threshold", f"means nothing for the operator {operator}"))
        elif (clear > threshold) if operator in {">", ">="} else (clear < threshold):
            side = "above" if operator in {">", ">="} else "below"
            sentence = (
                f"must not lie {side} the threshold {threshold} for the operator {operator}, got {clear}"
            )
            faults.append(("clear_threshold", sentence))
    return faults


def _fault(path: str, message: str) -> Fault:
    return {"path": path, "message": message}
