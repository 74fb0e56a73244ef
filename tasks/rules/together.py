"""The faults of a rule's fields that are right alone, and not together. Pure."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from tasks.rules.model import (
    DEFAULT_SEVERITY,
    EXPECTED,
    GROUPS,
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_FIELDS,
    MIN_ABSENT_SECONDS,
    NOT_FOR_ABSENT,
    NOT_FOR_UNCHANGED,
    OF_ONE,
    ORDERING,
    OVERRIDABLE,
)
from tasks.text.wording import describe, shorten

Place = tuple[str | int, ...]
"""The way to a field inside a rule: `("all", 1, "operator")`."""

_NUMBER = "a finite number (of at most 64 bits)"
_SINGLE = f"{_NUMBER}, a string or a boolean"
_NEEDS = f"; it needs one of {', '.join(ORDERING)} and a threshold"


_MEANT = {
    "=": "==",
    "=>": ">=",
    "=<": "<=",
    "<>": "!=",
    "gt": ">",
    "lt": "<",
    "gte": ">=",
    "lte": "<=",
    "ge": ">=",
    "le": "<=",
    "eq": "==",
    "ne": "!=",
    "missing": "absent",
    "silent": "absent",
    "is": "==",
    "is not": "!=",
    "stuck": "unchanged",
    "constant": "unchanged",
    "one of": "in",
}


class Misfit(NamedTuple):
    """A fault: where it is, and its sentence."""

    place: Place
    message: str


def _limits_of_group(given: dict[str, Any]) -> Iterator[Misfit]:
    for pattern, own in _objects(given.get("overrides")):
        for name in ("threshold", "clear_threshold", "escalate"):
            if name in own:
                yield Misfit(("overrides", pattern, name), f"is not allowed beside `{_group_of(given)}`")


def _group_of(given: dict[str, Any]) -> str:
    return next(one for one in GROUPS if one in given)


def _escalation(given: dict[str, Any], wrong: set[Place]) -> Iterator[Misfit]:
    """Faults of `escalate`: which rules may have it, and steps that lead nowhere."""
    steps, operator = given.get("escalate"), given.get("operator")
    if steps is None or operator is None or any(place[:1] == ("escalate",) for place in wrong):
        return
    if operator not in ORDERING or "threshold_key" in given:
        what = "`threshold_key`" if operator in ORDERING else f"the operator {shorten(str(operator), 20)}"
        if ("operator",) not in wrong:
            yield Misfit(("escalate",), f"is not allowed with {what}{_NEEDS}")
        return
    side = "above" if ">" in operator else "below"
    limit, severities = given.get("threshold"), [given.get("severity", DEFAULT_SEVERITY)]
    for index, step in enumerate(steps):
        threshold = step["threshold"]
        if ("threshold",) not in wrong and _is_number(limit):
            beyond = threshold > limit if side == "above" else threshold < limit
            if not beyond:
                sentence = f"must be {side} the threshold before it, {limit}, got {threshold}"
                yield Misfit(("escalate", index, "threshold"), sentence)
        if step["severity"] in severities:
            sentence = f"must not be {shorten(step['severity'], 40)} again; each step has its own severity"
            yield Misfit(("escalate", index, "severity"), sentence)
        limit = threshold
        severities.append(step["severity"])


def _overrides(given: dict[str, Any], wrong: set[Place]) -> Iterator[Misfit]:
    """Faults of the rule as it is for some devices, where it has none as it is."""
    known = {place for place, _ in (*_comparison(given, (), wrong), *_escalation(given, wrong))} | wrong
    for pattern, own in _objects(given.get("overrides")):
        merged = given | {name: value for name, value in own.items() if name in OVERRIDABLE}
        broken = known | {place[2:] for place in wrong if place[:2] == ("overrides", pattern)}
        for place, message in (*_comparison(merged, (), broken), *_escalation(merged, broken)):
            if place in known:
                continue
            if place[0] == "escalate" and "escalate" not in own:
                yield Misfit(("overrides", pattern), f"needs an `escalate` of its own: a step {message}")
            else:
                where = place if place[0] not in own else ("overrides", pattern, *place)
                yield Misfit(where, message)


def _flapping(given: dict[str, Any], wrong: set[Place]) -> Iterator[Misfit]:
    """A rule that waits as long before each alert never has two changes so near each other."""
    if "flapping" not in given or any(place[0] == "flapping" for place in wrong):
        return
    minutes = given["flapping"]["minutes"]
    waits = {("for_seconds",): given.get("for_seconds", 0)} | {
        ("overrides", pattern, "for_seconds"): own["for_seconds"]
        for pattern, own in _objects(given.get("overrides"))
        if "for_seconds" in own
    }
    for place, wait in waits.items():
        if place not in wrong and wait >= minutes * 60:
            where = f"`for_seconds` of {shorten(str(place[1]), 40)}" if len(place) > 1 else "`for_seconds`"
            sentence = f"must be more than the {wait} s of {where}, got {minutes} minutes"
            yield Misfit(("flapping", "minutes"), f"{sentence}; else the alert never flaps")
            return


def _objects(overrides: Any) -> list[tuple[str, dict[str, Any]]]:
    found = overrides.items() if type(overrides) is dict else ()
    return [(pattern, own) for pattern, own in found if type(own) is dict]


def meant_operator(text: str) -> str | None:
    """The operator that is called so in other languages."""
    return _MEANT.get(text.strip().lower())


def together(given: dict[str, Any], wrong: set[Place]) -> list[Misfit]:
    """The faults of a whole rule; `wrong` has the places of fields that are wrong alone."""
    faults = [*_condition(given, (), wrong), *_flapping(given, wrong)]
    if any(name in given for name in GROUPS):
        faults += _limits_of_group(given)
        if "escalate" in given:
            faults.append(Misfit(("escalate",), f"is not allowed beside `{_group_of(given)}`{_NEEDS}"))
        if "id" not in given:
            faults.append(Misfit(("id",), f"is missing; it must be {EXPECTED['id']}"))
        return faults
    faults += _escalation(given, wrong)
    faults += _overrides(given, wrong)
    if given.get("operator") == "absent":
        sentence = f"must be at least {MIN_ABSENT_SECONDS} for the operator absent, which waits that long"
        waits = {("for_seconds",): given.get("for_seconds", 0)} | {
            ("overrides", pattern, "for_seconds"): own["for_seconds"]
            for pattern, own in _objects(given.get("overrides"))
            if "for_seconds" in own
        }
        faults += [
            Misfit(place, sentence)
            for place, wait in waits.items()
            if place not in wrong and wait < MIN_ABSENT_SECONDS
        ]
    return faults


def nesting_fault(given: dict[str, Any]) -> str | None:
    """The fault of conditions that are nested too deep, or too many; None if they are not."""
    level, comparisons = [given], 0
    for _ in range(MAX_DEPTH + 1):
        inner = [one for each in level for name in GROUPS for one in _members(each, name)]
        if widest := max((len(one) for one in inner if len(one) > MAX_FIELDS), default=0):
            return f"has a condition of {widest} fields; a condition has at most {len(OF_ONE)}"
        comparisons += sum(not any(name in one for name in GROUPS) for one in inner)
        if comparisons > MAX_COMPARISONS or len(inner) > MAX_COMPARISONS * MAX_DEPTH:
            return f"has too many conditions; a rule has at most {MAX_COMPARISONS} comparisons"
        if not inner:
            return None
        level = inner
    return f"is nested too deep; `all` and `any` may be nested {MAX_DEPTH} deep"


def without_nulls(given: dict[str, Any], known: Collection[str] = EXPECTED, depth: int = 0) -> dict[str, Any]:
    """The fields that are given: null is like leaving a known field out, also in nested conditions."""
    found = {name: value for name, value in given.items() if value is not None or name not in known}
    for name in GROUPS:
        if depth < MAX_DEPTH and type(found.get(name)) is list:
            found[name] = [
                without_nulls(one, (*OF_ONE, *GROUPS), depth + 1) if type(one) is dict else one
                for one in found[name]
            ]
    if not depth and type(found.get("overrides")) is dict:
        found["overrides"] = {
            pattern: without_nulls(own, OVERRIDABLE, MAX_DEPTH) if type(own) is dict else own
            for pattern, own in found["overrides"].items()
        }
    return found


def _members(condition: dict[str, Any], group: str) -> list[dict[str, Any]]:
    found = condition.get(group)
    return [one for one in found if type(one) is dict] if type(found) is list else []


def _condition(given: dict[str, Any], at: Place, wrong: set[Place]) -> Iterator[Misfit]:
    groups = [name for name in GROUPS if name in given]
    if not groups:
        yield from _comparison(given, at, wrong)
        return
    for name in OF_ONE:
        if name in given:
            yield Misfit((*at, name), f"is not allowed beside `{groups[0]}`")
    if len(groups) > 1:
        yield Misfit((*at, "any"), "is not allowed beside `all`; put one inside the other")
    for group in groups:
        for index, one in enumerate(given[group] if type(given[group]) is list else []):
            if type(one) is dict:
                yield from _condition(one, (*at, group, index), wrong)


def _comparison(given: dict[str, Any], at: Place, wrong: set[Place]) -> Iterator[Misfit]:
    """Faults of one comparison. If its operator is missing, an ordinary one was most likely meant."""
    operator = given.get("operator")
    if (*at, "operator") in wrong:
        operator = meant_operator(operator) if isinstance(operator, str) else None
    if operator == "absent" and at:
        yield Misfit((*at, "operator"), "absent is only allowed in a rule without `all` and `any`")
        return
    if operator == "absent":
        for name in NOT_FOR_ABSENT:
            if name in given:
                yield Misfit(
                    (*at, name), "is not allowed with the operator absent, which waits `for_seconds`"
                )
        return
    needed = ["key"] if operator == "unchanged" or "threshold_key" in given else ["key", "threshold"]
    for name in (*needed, "operator"):
        if name not in given:
            yield Misfit((*at, name), f"is missing; it must be {EXPECTED[name]}")
    if operator == "unchanged":
        for name in NOT_FOR_UNCHANGED:
            if name in given:
                sentence = (
                    "is not allowed with the operator unchanged, which compares with the reading before"
                )
                yield Misfit((*at, name), sentence)
        return
    yield from _limits(given, operator, at, wrong)


def _limits(given: dict[str, Any], operator: str | None, at: Place, wrong: set[Place]) -> Iterator[Misfit]:
    """Faults of what a value is compared with."""
    numeric = operator in ORDERING or "change" in given
    if "threshold_key" in given:
        for name in ("threshold", "clear_threshold"):
            if name in given:
                yield Misfit((*at, name), "is not allowed beside `threshold_key`")
        if operator == "in":
            yield Misfit((*at, "threshold_key"), "is not allowed with the operator in")
    elif "threshold" in given and operator is not None and (*at, "threshold") not in wrong:
        threshold = given["threshold"]
        if operator == "in" and type(threshold) is not list:
            sentence = f"must be an array for the operator in, got {describe(threshold)}"
            yield Misfit((*at, "threshold"), sentence)
        elif operator != "in" and (type(threshold) is list or (numeric and not _is_number(threshold))):
            sentence = f"must be {_NUMBER if numeric else _SINGLE}, got {describe(threshold)}"
            yield Misfit((*at, "threshold"), sentence)
    if "change" in given and operator == "in":
        yield Misfit((*at, "change"), "is not allowed with the operator in")
    if "clear_threshold" in given and "threshold_key" not in given and operator is not None:
        yield from _clear(given, operator, at, wrong)


def _clear(given: dict[str, Any], operator: str, at: Place, wrong: set[Place]) -> Iterator[Misfit]:
    place = (*at, "clear_threshold")
    if operator not in ORDERING:
        yield Misfit(place, f"is not allowed with the operator {operator}")
        return
    if place in wrong or (*at, "threshold") in wrong or not _is_number(given.get("threshold")):
        return
    clear, threshold = given["clear_threshold"], given["threshold"]
    if (clear > threshold) if ">" in operator else (clear < threshold):
        side = "above" if ">" in operator else "below"
        sentence = f"must not be {side} the threshold {threshold} for the operator {operator}, got {clear}"
        yield Misfit(place, sentence)


def _is_number(value: Any) -> bool:
    return type(value) in {int, float}
