"""Conditions on a reading and the one before it, written a second time and plainly."""

from collections.abc import Callable
from typing import Any, TypeGuard

Rules = dict[str, dict[str, Any]]

VIOLATES: dict[str, Callable[[float, float], bool]] = {
    ">": lambda value, threshold: value > threshold,
    "<": lambda value, threshold: value < threshold,
    ">=": lambda value, threshold: not value < threshold,
    "<=": lambda value, threshold: not value > threshold,
    "==": lambda value, threshold: value == threshold,
    "!=": lambda value, threshold: value < threshold or value > threshold,
}

KINDS = {bool: "boolean", int: "number", float: "number", str: "text"}

ORDERING = {">", "<", ">=", "<="}


def is_number(value: Any) -> TypeGuard[float]:
    """As JSON sees it."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind(value: Any) -> str | None:
    """The type of a value; None if nothing can be compared with it."""
    return KINDS.get(type(value))


def equal(one: Any, other: Any) -> bool:
    """Also of one type."""
    return kind(one) == kind(other) and not one < other and not one > other


def leaves(rule: dict[str, Any]) -> list[dict[str, Any]]:
    """The comparisons of a condition."""
    inner = [leaf for name in ("all", "any") for one in rule.get(name, []) for leaf in leaves(one)]
    return inner or [rule]


class Before:
    """The values of the reading before, and what conditions make of them and of a reading."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[Any, float, float]] = {}  # by key: value, when, the same since when

    def forget(self) -> None:
        """Nothing came before."""
        self.last = {}

    def same_since(self, rule: dict[str, Any], time: float) -> float:
        """Since when the value of an `unchanged` is the same; of another rule, the time itself."""
        before = self.last.get(rule.get("key", ""))
        return min(before[2], time) if before and rule.get("operator") == "unchanged" else time

    def compared(self, leaf: dict[str, Any], payload: dict[str, Any], time: float) -> Any:
        """The value that a comparison is about, None if there is none."""
        value, before = payload.get(leaf["key"]), self.last.get(leaf["key"])
        if "change" not in leaf:
            return value if kind(value) else None
        if before is None or not is_number(value) or not is_number(before[0]):
            return None
        if leaf["change"] == "delta":
            return value - before[0]
        return (
            (value - before[0]) * 60_000_000 / ((time - before[1]) * 1_000_000) if time > before[1] else None
        )

    def holds(self, rule: dict[str, Any], payload: dict[str, Any], time: float, name: str) -> bool | None:
        """Whether a condition holds by its thresholds of this name; None if nobody knows."""
        if "all" in rule or "any" in rule:
            every = [self.holds(one, payload, time, name) for one in rule.get("all", rule.get("any", []))]
            decisive = "any" in rule
            if decisive in every:
                return decisive
            return None if None in every else not decisive
        value = self.compared(rule, payload, time)
        return None if value is None else self.fits(rule, value, payload, name)

    def fits(self, rule: dict[str, Any], value: Any, payload: dict[str, Any], name: str) -> bool | None:
        """Whether a comparison holds of a value."""
        if rule["operator"] == "unchanged":
            before = self.last.get(rule["key"])
            return None if before is None else equal(value, before[0])
        if rule["operator"] == "in":
            alike = [one for one in rule["threshold"] if kind(one) == kind(value)]
            return any(equal(one, value) for one in alike) if alike else None
        limit: Any = payload.get(rule["threshold_key"]) if "threshold_key" in rule else rule["threshold"]
        if name in rule:
            limit = rule[name]
        if kind(limit) != kind(value) or (rule["operator"] in ORDERING and not is_number(value)):
            return None
        return VIOLATES[rule["operator"]](value, limit)

    def values(self, rule: dict[str, Any], payload: dict[str, Any], time: float) -> dict[str, Any]:
        """Everything that a condition compares."""
        found = {}
        for leaf in leaves(rule):
            name = f"{leaf['change']}({leaf['key']})" if "change" in leaf else leaf["key"]
            found[name] = self.compared(leaf, payload, time)
            if "threshold_key" in leaf:
                found[leaf["threshold_key"]] = payload.get(leaf["threshold_key"])
        return {name: value for name, value in found.items() if kind(value)}

    def remember(self, payload: dict[str, Any], time: float, rules: Rules) -> None:
        """The values that the next reading may be compared with."""
        for key in self.forget_unasked(rules):
            value = payload.get(key)
            if not kind(value):
                continue
            old = self.last.get(key)
            same = old is not None and equal(old[0], value) and time >= old[2]
            self.last[key] = (value, time, old[2] if old and same else time)

    def forget_unasked(self, rules: Rules) -> set[str]:
        """The keys that rules compare with the reading before; of others nothing is remembered."""
        asked = {
            leaf["key"]
            for rule in rules.values()
            for leaf in leaves(rule)
            if "change" in leaf or leaf.get("operator") == "unchanged"
        }
        self.last = {key: one for key, one in self.last.items() if key in asked}
        return asked
