"""Violations that last while nothing else comes: the clock triggers alerts, and ends flapping. Pure."""

from tasks.rules.machine import Changes
from tasks.rules.order import Newest
from tasks.rules.rule import Compiled, RuleSet
from tasks.rules.state import DeviceState, RuleState, Status, from_us
from tasks.rules.transition import Cause, Draft, Flip


def lasted(
    state: DeviceState,
    rules: RuleSet,
    now_ms: int,
    listening_since_ms: int | None,
    room: int | None = None,
) -> tuple[DeviceState, Changes]:
    """Triggers the alerts of violations that have lasted for `for_seconds` since the latest reading.

    A device that reports only changes sends one violating reading, and then nothing. `now_ms`,
    `listening_since_ms` and `room` are those of `tasks.rules.machine.absent`: an outage of Sluice is not
    a sign that a violation goes on. A rule whose threshold was changed since waits for a reading, and so does
    a rule that lacks readings for `for_readings`.
    """
    newest = state.newest
    if listening_since_ms is None or newest is None:
        return state, ()
    draft = Draft(state, Cause(from_us(now_ms * 1000)), room)
    for rule_id, entry in sorted(state.entries.items()):
        rule = rules.by_id.get(rule_id)
        if rule is None or entry.first_seen is None or not _waits(rule, entry):
            continue
        outage_us = max(0, listening_since_ms * 1000 - newest.arrival)
        if now_ms * 1000 >= due(newest, entry.first_seen, rule.for_us) + outage_us:
            alert_id = draft.derive_id(rule_id, "lasted", entry.first_seen, draft.number)
            flip = Flip(newest.time + now_ms * 1000 - newest.arrival - outage_us, rule.flapping)
            draft.trigger(rule_id, entry._replace(facts=rule.risen(entry.facts)), alert_id, flip=flip)
    return draft.finish(), tuple(draft.changes)


def calmed(
    state: DeviceState, rules: RuleSet, now_ms: int, listening_since_ms: int | None
) -> tuple[DeviceState, Changes]:
    """Ends the flapping of alerts that have not changed for the `minutes` of their rules.

    A rule that is still violated is announced as TRIGGERED, others as RESOLVED. Changes of a rule in order
    that no longer count are forgotten. The arguments are those of `lasted`.
    """
    if listening_since_ms is None:
        return state, ()
    draft = Draft(state, Cause(from_us(now_ms * 1000)))
    for rule_id, entry in sorted(state.entries.items()):
        rule = rules.by_id.get(rule_id)
        if rule is None or not _may_calm(rule, entry):
            continue
        if now_ms * 1000 < calm_at(rule, entry, state.newest, listening_since_ms * 1000):
            continue
        if entry.status is Status.OK:
            draft.clear(rule_id, entry._replace(flips=None), now_ms)
        else:
            draft.calm(rule_id, entry._replace(facts=rule.risen(entry.facts)), now_ms)
    return draft.finish(), tuple(draft.changes)


def due(newest: Newest, first_seen: int, for_us: int) -> int:
    """When a violation will have lasted for `for_us`, by the clock (µs), if no other reading comes."""
    return newest.arrival + for_us - (newest.time - first_seen)


def calm_at(rule: Compiled, entry: RuleState, newest: Newest | None, listening_us: int) -> int:
    """When the changes of an entry that has `flips` no longer count, by the clock (µs), if none is added.

    Those of an absence are by the clock already.
    """
    assert entry.flips is not None
    within = rule.flapping.within if rule.flapping else 0
    if newest is None or rule.facts.operator == "absent":
        return max(entry.flips.last, listening_us) + within
    return due(newest, entry.flips.last, within) + max(0, listening_us - newest.arrival)


def _may_calm(rule: Compiled, entry: RuleState) -> bool:
    waits = entry.status in {Status.FLAPPING, Status.OK} and entry.flips is not None
    return waits and entry.facts.same_rule(rule.facts)


def _waits(rule: Compiled, entry: RuleState) -> bool:
    """Whether nothing but time is missing to an alert."""
    same = entry.facts.same_rule(rule.facts) and entry.facts.same_limits(rule.facts)
    pending = entry.status is Status.PENDING and not entry.is_refused
    return pending and same and rule.for_us > 0 and entry.violations >= rule.for_readings
