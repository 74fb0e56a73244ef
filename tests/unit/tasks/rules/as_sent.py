"""How rules and readings of lives are written: with overrides, and a key that has dots in a name.

The plain model knows neither: it has the rules as they are for the device, and short keys.
"""

from typing import Any

from hypothesis import strategies as st

KEY, QUOTED = "b", 'meter."1.8.0"'
# The values for the device `d`, of which the first counts, and those for other devices alone.
CHOICES = ("d", "d*", "*")
OTHERS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"x*": {"severity": "another"}}, {"dd": {"for_seconds": 50}}]
)
LIMITS = {"threshold", "clear_threshold", "escalate"}


@st.composite
def overriding(draw: st.DrawFn, given: dict[str, Any]) -> dict[str, Any]:
    """The same rule for the device, of which some fields are in `overrides`."""
    fields = [name for name in (*LIMITS, "for_seconds", "severity") if name in given]
    moved = set(draw(st.lists(st.sampled_from(sorted(fields)), unique=True)))
    if "threshold" in moved:
        moved |= LIMITS & {*fields}
    own = {name: given[name] for name in sorted(moved)}
    if "severity" not in given and draw(st.booleans()):
        own["severity"] = "own"
    base = {name: value for name, value in given.items() if name not in moved}
    if "threshold" in moved:
        base["threshold"] = [7] if given["operator"] == "in" else 7
    if "for_seconds" in moved:
        base["for_seconds"] = 45
    if "severity" in moved:
        base["severity"] = "base"
    at = draw(st.integers(0, len(CHOICES) - 1))
    less = {name: {"severity": "less"} for name in CHOICES[at + 1 :] if draw(st.booleans())}
    return {**base, "overrides": {**draw(OTHERS), **less, CHOICES[at]: own}}


def own(rule: dict[str, Any]) -> dict[str, Any]:
    """The rule as it is for the device."""
    overrides: dict[str, Any] = rule.get("overrides", {})
    chosen: dict[str, Any] = next((overrides[name] for name in CHOICES if name in overrides), {})
    return {name: value for name, value in (rule | chosen).items() if name != "overrides"}


def own_rules(rules: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """All of them, by their ids."""
    return {rule["id"]: own(rule) for rule in rules}


def quoted(rule: dict[str, Any]) -> dict[str, Any]:
    """The rule with the long key."""
    return {name: _quoted(name, value) for name, value in rule.items()}


def _quoted(name: str, value: Any) -> Any:
    if name in {"all", "any"}:
        return [quoted(one) for one in value]
    return QUOTED if name in {"key", "threshold_key"} and value == KEY else value


def nested(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload as the long key finds it."""
    rest = {name: value for name, value in payload.items() if name != KEY}
    return rest | {"meter": {"1.8.0": payload[KEY]}} if KEY in payload else rest


def flat(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload of which `nested` made this one."""
    rest = {name: value for name, value in payload.items() if name != "meter"}
    return rest | {KEY: payload["meter"]["1.8.0"]} if "meter" in payload else rest


def short(values: dict[str, Any] | None) -> dict[str, Any] | None:
    """The values of a change by short keys."""
    return values and {name.replace(QUOTED, KEY): value for name, value in values.items()}
