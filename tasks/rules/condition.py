"""Conditions that compare more than one number of a reading, in the form in which they judge. Pure.

A value that is missing, or of another type than what it is compared with, makes its comparison unknown. `all`
does not hold if one of its conditions does not, `any` holds if one does; otherwise an unknown condition makes
the group unknown. An unknown condition neither triggers nor resolves.
"""

import json
import operator as compare
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from math import isfinite
from typing import Any, NamedTuple, TypeGuard

from tasks.rules.model import GROUPS, MAX_TEXT, Condition, Number, Operator, Scalar
from tasks.text.paths import MISSING, Path, steps, walk

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">": compare.gt,
    "<": compare.lt,
    ">=": compare.ge,
    "<=": compare.le,
    "==": compare.eq,
    "!=": compare.ne,
}
_MINUTE_US = 60_000_000


class Before(NamedTuple):
    """The latest value of a key, when it came and since when it has been the same, by the readings' times."""

    value: Scalar
    time: int
    since: int


class View(NamedTuple):
    """A reading as conditions see it: its payload, its time (µs), and the values before it by their keys."""

    payload: dict[str, Any]
    time: int
    before: Mapping[str, Before] = {}


class Finding(NamedTuple):
    """A judgement: whether the condition holds, whether an open alert is over, and what was compared."""

    holds: bool
    over: bool
    value: Scalar | None
    values: dict[str, Scalar] | None = None
    since: int | None = None  # when what holds began, if that is not the time of the reading

    def began(self, time: int) -> int:
        """When what holds began, for a reading of this time."""
        return time if self.since is None else self.since


class Place(NamedTuple):
    """Where a value is in a payload."""

    key: str
    path: Path | None

    def find(self, payload: dict[str, Any]) -> Scalar | None:
        """The value, None if it is missing or cannot be compared."""
        value = payload.get(self.key, MISSING)
        if value is MISSING and self.path is not None:
            value = walk(payload, self.path)
        return value if type(value) in {int, float, str, bool} else None


class _Comparison(NamedTuple):
    place: Place
    operator: Operator
    threshold: Any  # of `in`, the values by their types
    clear: Any
    other: Place | None
    change: str | None

    @property
    def label(self) -> str:
        return f"{self.change}({self.place.key})" if self.change else self.place.key

    def value(self, view: View) -> Scalar | None:
        """The value that is compared."""
        value = self.place.find(view.payload)
        return value if self.change is None else self._changed(value, view)

    def holds(self, view: View, *, clear: bool) -> bool | None:
        """Whether it holds, by the clear threshold if `clear`; None if it is unknown."""
        value = self.value(view)
        if value is None:
            return None
        if self.operator == "unchanged":
            before = view.before.get(self.place.key)
            return None if before is None else is_same(value, before.value)
        if self.operator == "in":
            alike = self.threshold.get(kind_of(value))
            return None if alike is None else value in alike
        limit = self.clear if clear else self.threshold
        if self.other is not None:
            limit = self.other.find(view.payload)
        if limit is None or kind_of(value) != kind_of(limit):
            return None
        if self.operator not in {"==", "!="} and kind_of(value) != "number":
            return None
        return COMPARE[self.operator](value, limit)

    def _changed(self, value: Scalar | None, view: View) -> Number | None:
        before = view.before.get(self.place.key)
        if before is None or not (_is_number(value) and _is_number(before.value)):
            return None
        if self.change == "rate" and view.time <= before.time:
            return None
        try:
            change = value - before.value
            if self.change == "rate":
                change = change * _MINUTE_US / (view.time - before.time)
        except OverflowError:  # an integer beyond a double
            return None
        return change if isinstance(change, int) or isfinite(change) else None


class _Group(NamedTuple):
    of_all: bool
    members: tuple["_Comparison | _Group", ...]

    def holds(self, view: View, *, clear: bool) -> bool | None:
        """Whether it holds; None if it is unknown."""
        unknown = False
        for member in self.members:
            held = member.holds(view, clear=clear)
            if held is None:
                unknown = True
            elif held is not self.of_all:
                return held
        return None if unknown else self.of_all


class Judge(NamedTuple):
    """The condition of a rule, ready to judge."""

    root: _Comparison | _Group
    comparisons: tuple[_Comparison, ...]
    remembers: tuple[Place, ...]
    digest: str

    def may_matter(self, payload: dict[str, Any]) -> bool:
        """Whether a reading may change anything while the rule is in order: the quick look."""
        if any(place.find(payload) is not None for place in self.remembers):
            return True
        return bool(self.root.holds(View(payload, 0), clear=False))

    def judge(self, view: View) -> Finding | None:
        """The judgement of a reading; None if it is unknown."""
        holds = self.root.holds(view, clear=False)
        if holds is None:
            return None
        over = not holds and self.root.holds(view, clear=True) is False
        values = self._values(view)
        if isinstance(self.root, _Group):
            return Finding(holds, over, None, values)
        value = cut(self.root.value(view))
        before = view.before.get(self.root.place.key) if self.root.operator == "unchanged" else None
        several = values if self.root.other is not None else None
        return Finding(holds, over, value, several, None if before is None else min(before.since, view.time))

    def _values(self, view: View) -> dict[str, Scalar]:
        found: dict[str, Scalar] = {}
        for one in self.comparisons:
            if (value := cut(one.value(view))) is not None:
                found[one.label] = value
            if one.other is not None and (limit := cut(one.other.find(view.payload))) is not None:
                found[one.other.key] = limit
        return found


def judge_of(condition: Condition) -> Judge:
    """The condition of a rule that is not plain."""
    root = _built(condition)
    comparisons = tuple(_leaves(root))
    places = {one.place.key: one.place for one in comparisons if _remembers(one)}
    return Judge(root, comparisons, tuple(places.values()), _digest(condition))


def remembered_keys(condition: Condition) -> set[str]:
    """The keys whose values a condition compares with the reading before."""
    inner = [one for name in GROUPS for one in getattr(condition, name) or ()]
    own = condition.change is not None or condition.operator == "unchanged"
    return set().union(*map(remembered_keys, inner)) | ({condition.key or ""} if own else set())


def remember(before: Mapping[str, Before], places: Mapping[str, Place], view: View) -> Mapping[str, Before]:
    """The values to remember after a reading: those of `places`, and no others. A long text is none."""
    found = {key: one for key, one in before.items() if key in places}
    for key, place in places.items():
        value = place.find(view.payload)
        if value is None:
            continue
        if isinstance(value, str) and len(value) > MAX_TEXT:
            found.pop(key, None)
            continue
        known = found.get(key)
        same = known is not None and is_same(known.value, value) and view.time >= known.since
        found[key] = Before(value, view.time, known.since if known is not None and same else view.time)
    return found


def kind_of(value: Scalar) -> str:
    """The type as JSON has it: booleans are not numbers."""
    return "text" if isinstance(value, str) else "boolean" if isinstance(value, bool) else "number"


def is_same(one: Scalar, other: Scalar) -> bool:
    """Whether two values are equal and of one type."""
    return kind_of(one) == kind_of(other) and one == other


def cut(value: Scalar | None) -> Scalar | None:
    """The value as alerts have it: a long text is cut."""
    return value[:MAX_TEXT] if isinstance(value, str) else value


def same_shape(one: str | None, other: str | None) -> bool:
    """Whether two digests are of conditions that differ in thresholds at most."""
    return one == other or (one or "").split("/")[0] == (other or "").split("/")[0]


def _is_number(value: object) -> TypeGuard[Number]:
    return type(value) in {int, float}


def _remembers(one: _Comparison) -> bool:
    return one.change is not None or one.operator == "unchanged"


def _place(key: str) -> Place:
    return Place(key, steps(key))


def _built(condition: Condition) -> _Comparison | _Group:
    for name in GROUPS:
        if (members := getattr(condition, name)) is not None:
            return _Group(name == "all", tuple(map(_built, members)))
    assert condition.key is not None
    assert condition.operator is not None
    threshold, clear = condition.threshold, condition.clear_threshold
    return _Comparison(
        _place(condition.key),
        condition.operator,
        _by_kind(threshold) if isinstance(threshold, list) else threshold,
        threshold if clear is None else clear,
        None if condition.threshold_key is None else _place(condition.threshold_key),
        condition.change,
    )


def _by_kind(values: list[Scalar]) -> dict[str, frozenset[Scalar]]:
    kinds = set(map(kind_of, values))
    return {kind: frozenset(one for one in values if kind_of(one) == kind) for kind in kinds}


def _leaves(node: _Comparison | _Group) -> Iterator[_Comparison]:
    if isinstance(node, _Comparison):
        yield node
        return
    for member in node.members:
        yield from _leaves(member)


def _digest(condition: Condition) -> str:
    """Two digests: of the keys and operators, and of the thresholds."""
    limits: list[Any] = []
    return f"{_hash(_shape(condition, limits))}/{_hash(limits)}"


def _shape(condition: Condition, limits: list[Any]) -> Any:
    limits.append(condition.threshold)
    groups = {
        name: [_shape(one, limits) for one in members]
        for name in GROUPS
        if (members := getattr(condition, name)) is not None
    }
    return groups or [condition.key, condition.operator, condition.threshold_key, condition.change]


def _hash(document: Any) -> str:
    return blake2b(json.dumps(document).encode(), digest_size=6).hexdigest()
