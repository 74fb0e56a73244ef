"""The differences between two rule sets, rule by rule, for people. Pure."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

Rule = dict[str, Any]
_MISSING = object()


class Difference(NamedTuple):
    """One rule that is not the same in both sets; `before` or `after` is None where it is not there."""

    rule_id: str
    before: Rule | None
    after: Rule | None

    @property
    def sign(self) -> str:
        """`+` for a new rule, `-` for one that is gone, `~` for one that changed."""
        return "+" if self.before is None else "-" if self.after is None else "~"


def differences(before: Sequence[Any], after: Sequence[Any]) -> list[Difference]:
    """The rules that differ, those of `before` first; the order of the rules counts for nothing.

    Rules belong together by `rule_id`, and where several have the same, which is not valid, by their order.
    """
    old, new = _by_id(before), _by_id(after)
    found = [
        Difference(rule_id, rule, new.get(rule_id))
        for rule_id, rule in old.items()
        if rule_id not in new or not _same(rule, new[rule_id])
    ]
    return found + [Difference(rule_id, None, rule) for rule_id, rule in new.items() if rule_id not in old]


def as_lines(found: Sequence[Difference]) -> Iterator[str]:
    """A line for each rule that came or went, and one for each field that changed."""
    for one in found:
        whole = one.after if one.before is None else one.before
        if one.before is None or one.after is None:
            yield f"{one.sign} {one.rule_id}  {_text(whole)}"
            continue
        yield f"~ {one.rule_id}"
        for name in dict.fromkeys([*one.before, *one.after]):
            was, now = one.before.get(name, _MISSING), one.after.get(name, _MISSING)
            if not _same(was, now):
                yield f"    {name}: {_value(was)} -> {_value(now)}"


def summary(found: Sequence[Difference]) -> str:
    """How many rules came, went and changed: `+1 -0 ~2`; or `the same`."""
    counts = Counter(one.sign for one in found)
    return " ".join(f"{sign}{counts[sign]}" for sign in "+-~") if found else "the same"


def _by_id(rules: Sequence[Any]) -> dict[str, Rule]:
    named: dict[str, Rule] = {}
    for rule in rules:
        given = {name: value for name, value in rule.items() if value is not None} if _is_rule(rule) else {}
        name = given.get("id") or given.get("key") or given.get("operator") or "?"
        label = unique = name if isinstance(name, str) else _text(name)
        number = 1
        while unique in named:
            number += 1
            unique = f"{label} ({number})"
        named[unique] = given or {"": rule}
    return named


def _is_rule(rule: Any) -> bool:
    return isinstance(rule, dict)


def _same(one: Any, other: Any) -> bool:
    # Python takes True for 1.
    return one is other or (_MISSING not in (one, other) and _text(one) == _text(other))


def _value(value: Any) -> str:
    return "none" if value is _MISSING else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
