"""The devices of a rule, by names, patterns and groups, and the values it overrides for some. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from tasks.rules.model import Rule

Groups: TypeAlias = Mapping[str, frozenset[str]]
"""The devices of each group of a user, by its name. An empty group is like one that does not exist."""

NO_GROUPS: Groups = {}
# Before the name of a group, where a device could stand.
SIGN = "@"


def matches(pattern: str, device_id: str) -> bool:
    """Whether a pattern, in which `*` stands for any characters, fits a name; in linear time."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == device_id
    if not device_id.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = device_id.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return device_id.endswith(rest[-1]) and len(device_id) - len(rest[-1]) >= at


def choice(rule: Rule, device_id: str, groups: Groups = NO_GROUPS) -> str | None:
    """The pattern of the `overrides` that counts for a device, "" for the rule as it is, None if it does not
    concern the device.

    A name counts before groups, a group before patterns, of several groups the first by the alphabet, and a
    longer pattern before a shorter one: the database keeps no order. A device whose own name begins with `@`
    is meant by that name, too.
    """
    if rule.devices is not None and not any(_fits(one, device_id, groups) for one in patterns(rule.devices)):
        return None
    if not rule.overrides:
        return ""
    if device_id in rule.overrides:
        return device_id
    own = [pattern for pattern in rule.overrides if _is_member(pattern, device_id, groups)]
    if own:
        return min(own)
    fitting = [pattern for pattern in rule.overrides if matches(pattern, device_id)]
    return min(fitting, key=lambda pattern: (-len(pattern), pattern), default="")


def overridden(rule: Rule, pattern: str) -> Rule:
    """The rule as it is for a device that this pattern of its `overrides` counts for."""
    own = (rule.overrides or {})[pattern]
    return rule.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def patterns(devices: str | list[str]) -> list[str]:
    """The patterns of a rule's `devices`."""
    return [devices] if isinstance(devices, str) else devices


def named(devices: str | list[str], groups: Groups) -> Iterator[str]:
    """The devices that a rule's `devices` names, or of which it names the group; not those of patterns."""
    for one in patterns(devices):
        if members := groups.get(one.removeprefix(SIGN)) if one.startswith(SIGN) else None:
            yield from members
        elif one and "*" not in one:
            yield one


def names_groups(rules: Iterable[Rule]) -> bool:
    """Whether any of the rules may be about a group."""
    return any(
        pattern.startswith(SIGN)
        for rule in rules
        for pattern in (*patterns(rule.devices or []), *(rule.overrides or ()))
    )


def _fits(pattern: str, device_id: str, groups: Groups) -> bool:
    return matches(pattern, device_id) or _is_member(pattern, device_id, groups)


def _is_member(pattern: str, device_id: str, groups: Groups) -> bool:
    return pattern.startswith(SIGN) and device_id in groups.get(pattern.removeprefix(SIGN), ())
