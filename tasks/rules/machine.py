"""The state machine of alerts: pure functions from a state and an event to the next state and its changes.

`step` takes one reading, `absent` and `snoozes_ended` the clock, `rules_changed` another rule set; commands
of users are in `tasks.rules.commands`. Readings must come in Kafka order. The same readings give the same
changes however they are cut into batches, and readings that come again change nothing.

That has one limit, because a quiet device has no memory: a reading that changed nothing, and comes again
after the user changed the rules, is judged by the new ones, like any reading of an unfinished batch.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from tasks.rules import order
from tasks.rules.change import RETURNED, RULE_CHANGED, RULE_REMOVED, Change
from tasks.rules.condition import Finding, View, remember
from tasks.rules.flips import Flips
from tasks.rules.model import Number
from tasks.rules.rule import Alert, Compiled, RuleSet, checked, find, is_number
from tasks.rules.state import DeviceState, Position, RuleState, Status, advanced, from_us, to_us
from tasks.rules.transition import Cause, Draft, Flip
from tasks.text.paths import MISSING

Changes = tuple[Change, ...]


class Observation(NamedTuple):
    """A reading as the rules see it: `time` is its own, `timestamp_ms` that of its Kafka record.

    `step` takes `timestamp_ms` as the present time: it is the same at every run. `check_results` has what the
    domain's checks say of the reading, by their `rule_id`; a missing check has no result.
    """

    partition: int
    offset: int
    timestamp_ms: int
    time: datetime
    sequence_id: int | None
    payload: dict[str, Any]
    check_results: Mapping[str, Alert | None] = {}
    key: int | None = None  # of the row, as a number; without it a repeated key is not noticed
    redelivered: bool = False  # by the MQTT broker: it may have been judged
    late: bool = False  # by more than the state knows

    @property
    def moment(self) -> order.Moment:
        """When it was measured and when it arrived."""
        return order.Moment.of(
            to_us(self.time), self.timestamp_ms * 1000, self.key, redelivered=self.redelivered
        )


class LastSeen(NamedTuple):
    """When something last came from a device, by the timestamps of the records (ms)."""

    device_ms: int
    keys: Mapping[str, int] = {}


def violates(rules: RuleSet, payload: dict[str, Any], check_results: Mapping[str, Alert | None]) -> bool:
    """Whether a reading violates anything: if not, it changes nothing while the device has no entries."""
    return rules.any_violated(payload) or any(check_results.values())


def step(
    state: DeviceState, rules: RuleSet, reading: Observation, room: int | None = None
) -> tuple[DeviceState, Changes]:
    """Judges one reading. `room` is how many more alerts of the user may be open; None is any number.

    - A value that has violated its rule for `for_seconds`, by the readings' times, triggers an alert. One
      that no longer violates it, but is not beyond `clear_threshold`, keeps an open alert open. A value that
      is missing or not a number changes nothing.
    - A reading at or before a position that changed the state changes nothing. A late one (see
      `tasks.rules.order`) is judged by no rule. When the device's clock was set, `for_seconds` starts again.
    - A rule that is gone, or whose `rule_id` now stands for another key or operator, resolves its alert.
    - During a snooze nothing triggers; an alert that ends is resolved at once. After the snooze, an alert
      that is not over triggers again, under a new id.
    - Any reading of a device, late or not, ends its absence.
    - An alert that has no room is refused, which is reported once; a later reading triggers it, if
      its rule is still violated and there is room.
    - An alert has the highest severity that a reading of its violation reached. When that rises while the
      alert is open, the alert is escalated, once for each rise; during a snooze it rises without a notice.
    - Values that rules compare with the reading before are remembered: those of the latest reading that is
      not late. When the device's clock was set, they are forgotten.
    - A check is violated while it returns an alert, and in order when it returns None.
    """
    if state.has_judged(reading.partition, reading.offset):
        return state, ()
    moment = reading.moment
    late = reading.late or order.is_late(state.newest, moment)
    newest = state.newest if late else order.advanced(state.newest, moment)
    # Remembered values are forgotten when no rule needs them any more.
    if not (state.entries or state.before or violates(rules, reading.payload, reading.check_results)):
        return state._replace(newest=newest), ()
    position = Position(reading.partition, reading.offset)
    draft = Draft(state, Cause(reading.time, position, reading.sequence_id), room)
    _drop_foreign(draft, rules, reading.timestamp_ms)
    for rule in rules.absences:
        _end_absence(draft, rule, reading)
    if not late:
        if order.jumped(state.newest, moment):
            _wait_again(draft, moment.time, reading.timestamp_ms)
        for rule in rules.comparisons:
            value = find(reading.payload, rule)
            if is_number(value):
                violated = rule.compare(value, rule.threshold)
                if violated or rule.rule_id in draft.entries:
                    finding = Finding(violated, not violated and rule.cleared(value), value)
                    _judge(draft, rule, finding, moment.time, reading)
        if rules.conditions or draft.before:
            _judge_conditions(draft, rules, moment.time, reading)
        for rule in rules.checks:
            if rule.rule_id in reading.check_results:
                _judge_check(draft, rule, reading.check_results[rule.rule_id], moment.time, reading)
    after = draft.finish()
    if after is state and not state.is_open:
        return state._replace(newest=newest), ()
    return after._replace(positions=advanced(state.positions, position), newest=newest), tuple(draft.changes)


def absent(
    state: DeviceState,
    rules: RuleSet,
    last_seen: LastSeen,
    now_ms: int,
    listening_since_ms: int | None,
    room: int | None = None,
) -> tuple[DeviceState, Changes]:
    """Judges the absence rules by the clock; `room` is that of `step`.

    `listening_since_ms` is the time since which every message could arrive: silence counts from then on, so
    an outage of Sluice is not an absence. None while messages cannot arrive, and then nothing is judged. A
    key that never came is not absent, because not every device has every value.
    """
    if listening_since_ms is None or not rules.absences:
        return state, ()
    draft = Draft(state, Cause(from_us(now_ms * 1000)), room)
    _drop_foreign(draft, rules, now_ms)
    for rule in rules.absences:
        seen_ms = last_seen.keys.get(rule.key) if rule.key else last_seen.device_ms
        if seen_ms is not None:
            _judge_absence(draft, rule, seen_ms, now_ms, listening_since_ms)
    return draft.finish(), tuple(draft.changes)


def snoozes_ended(state: DeviceState, now_ms: int) -> tuple[DeviceState, Changes]:
    """Ends the snoozes that are over without waiting for a reading: alerts still open trigger again."""
    draft = Draft(state, Cause(from_us(now_ms * 1000)))
    for rule_id, entry in sorted(state.entries.items()):
        if entry.snoozed_until is None or entry.is_snoozed(now_ms):
            continue
        if entry.is_open:
            draft.renew(rule_id, entry)
        elif entry.first_seen is None:
            draft.clear(rule_id, entry, now_ms)
        else:
            draft.entries[rule_id] = entry._replace(status=Status.PENDING, snoozed_until=None)
    return draft.finish(), tuple(draft.changes)


def rules_changed(state: DeviceState, rules: RuleSet, at_ms: int) -> tuple[DeviceState, Changes]:
    """Resolves the alerts of rules that are gone or now stand for something else, without a reading."""
    draft = Draft(state, Cause(from_us(at_ms * 1000)))
    _drop_foreign(draft, rules, at_ms)
    if state.before:
        draft.before = {key: one for key, one in state.before.items() if key in rules.remembered}
    return draft.finish(), tuple(draft.changes)


def _drop_foreign(draft: Draft, rules: RuleSet, now_ms: int) -> None:
    for rule_id, entry in sorted(draft.state.entries.items()):
        rule = rules.by_id.get(rule_id)
        if rule is None:
            if entry.is_open:
                draft.resolve(rule_id, entry, now_ms, entry.value, entry.values, reason=RULE_REMOVED)
            draft.entries.pop(rule_id, None)
        elif entry.has_row and not rule.facts.same_rule(entry.facts):
            entry = entry._replace(flips=None)  # noqa: PLW2901 - of another rule
            if entry.is_open:
                draft.resolve(rule_id, entry, now_ms, entry.value, entry.values, reason=RULE_CHANGED)
            elif entry.status is not Status.DISABLED:
                draft.clear(rule_id, entry, now_ms)
            if kept := draft.entries.get(rule_id):
                draft.entries[rule_id] = kept._replace(facts=rule.facts)


def _wait_again(draft: Draft, time: int, now_ms: int) -> None:
    """Forgets what came before, and when violations without an alert began; a refused one has waited."""
    draft.before = {}
    for rule_id, entry in sorted(draft.entries.items()):
        if entry.flips is not None and entry.facts.operator != "absent":
            flaps = entry.status is Status.FLAPPING
            flips = entry.flips._replace(times=(time,)) if flaps else None
            draft.entries[rule_id] = entry = entry._replace(flips=flips)  # noqa: PLW2901
            if entry.status is Status.OK:
                draft.clear(rule_id, entry, now_ms)
        if entry.first_seen is not None and not (entry.is_open or entry.is_refused):
            draft.clear(rule_id, entry, now_ms)


def _judge_conditions(draft: Draft, rules: RuleSet, time: int, reading: Observation) -> None:
    view = View(reading.payload, time, draft.before)
    for rule, judge in rules.conditions:
        finding = judge.judge(view)
        if finding is not None:
            _judge(draft, rule, finding, time, reading)
    draft.before = remember(draft.before, rules.remembered, view)


def _judge_check(draft: Draft, rule: Compiled, alert: Alert | None, time: int, reading: Observation) -> None:
    entry = draft.entries.get(rule.rule_id)
    said = checked(rule, alert, None if entry is None else entry.facts)
    finding = Finding(alert is not None, alert is None, None if alert is None else alert.value)
    _judge(draft, said, finding, time, reading)


def _judge(draft: Draft, rule: Compiled, finding: Finding, time: int, reading: Observation) -> None:
    entry = draft.entries.get(rule.rule_id)
    if entry is None:
        if finding.holds:
            _judge_closed(draft, rule, RuleState(Status.OK, rule.facts), finding, time, reading)
    elif entry.status is Status.FLAPPING:
        _judge_flapping(draft, rule, entry, finding, time, reading)
    elif entry.is_open:
        _judge_open(draft, rule, entry, finding, time, reading)
    elif entry.status is Status.DISABLED:
        return
    elif finding.holds:
        _judge_closed(draft, rule, entry, finding, time, reading)
    else:
        draft.clear(rule.rule_id, entry, reading.timestamp_ms)


def _judge_open(
    draft: Draft, rule: Compiled, entry: RuleState, finding: Finding, time: int, reading: Observation
) -> None:
    """A reading of a rule with an open alert."""
    before = rule.risen(entry.facts)
    if finding.holds:
        entry = _violated(entry, rule, finding, time, reading.sequence_id)
    elif finding.over:
        ended, flip = (finding.value, finding.values), Flip(time, rule.flapping)
        draft.resolve(rule.rule_id, entry, reading.timestamp_ms, *ended, facts=before, flip=flip)
        return
    if entry.snoozed_until is not None and not entry.is_snoozed(reading.timestamp_ms):
        draft.renew(rule.rule_id, entry)
        return
    draft.entries[rule.rule_id] = entry
    if finding.holds and entry.snoozed_until is None and entry.facts.severity != before.severity:
        assert entry.alert_id is not None
        draft.add_change("ESCALATED", rule.rule_id, entry, entry.alert_id)


def _judge_flapping(
    draft: Draft, rule: Compiled, entry: RuleState, finding: Finding, time: int, reading: Observation
) -> None:
    """A reading of a rule whose alert is flapping: a reading after the calm ends it."""
    assert entry.flips is not None
    was_over = entry.flips.over
    is_calm = time - entry.flips.last >= (rule.flapping.within if rule.flapping else 0)
    if finding.holds:
        if was_over:
            entry = entry._replace(
                facts=rule.facts, first_seen=finding.began(time), last_seen=None, violations=0
            )
        entry = _violated(entry, rule, finding, time, reading.sequence_id)
    elif finding.over and (is_calm or not was_over):
        entry = entry._replace(value=finding.value, values=finding.values)
    over = not finding.holds and (finding.over or was_over)
    if over != was_over:
        entry = entry._replace(flips=Flips((time,), over))
    if is_calm:
        entry = entry._replace(facts=rule.risen(entry.facts))
        draft.calm(rule.rule_id, entry, reading.timestamp_ms)
    else:
        draft.entries[rule.rule_id] = entry


def _judge_closed(
    draft: Draft, rule: Compiled, entry: RuleState, finding: Finding, time: int, reading: Observation
) -> None:
    """A reading that violates a rule without an open alert."""
    if entry.first_seen is None or not entry.facts.same_limits(rule.facts):
        entry = entry._replace(facts=rule.facts, first_seen=finding.began(time), last_seen=None, violations=0)
    elif entry.first_seen > time:
        # A clock was set back: the waiting starts again, the readings in a row go on.
        entry = entry._replace(first_seen=finding.began(time), last_seen=None)
    entry = _violated(entry, rule, finding, time, reading.sequence_id)
    assert entry.first_seen is not None
    if entry.is_snoozed(reading.timestamp_ms):
        draft.entries[rule.rule_id] = entry
    elif time - entry.first_seen >= rule.for_us and entry.violations >= rule.for_readings:
        alert_id = draft.derive_id(rule.rule_id, "reading", reading.partition, reading.offset)
        draft.trigger(rule.rule_id, entry, alert_id, flip=Flip(time, rule.flapping))
    else:
        draft.entries[rule.rule_id] = entry._replace(status=Status.PENDING, snoozed_until=None)


def _violated(
    entry: RuleState, rule: Compiled, finding: Finding, time: int, sequence_id: int | None
) -> RuleState:
    return entry._replace(
        facts=rule.risen(entry.facts, finding.value),
        last_seen=time if entry.last_seen is None else max(time, entry.last_seen),
        violations=entry.violations + 1,
        value=finding.value,
        values=finding.values,
        sequence_id=sequence_id,
    )


def _end_absence(draft: Draft, rule: Compiled, reading: Observation) -> None:
    entry = draft.entries.get(rule.rule_id)
    if entry is None or not (entry.is_open or entry.is_refused) or entry.first_seen is None:
        return
    value = find(reading.payload, rule) if rule.key else None
    if value is MISSING or (rule.key and value is None):
        return
    # An older record may be judged only now, or again: it is not a return.
    if reading.timestamp_ms * 1000 > entry.first_seen:
        number = value if is_number(value) else None
        _returned(draft, rule, entry, reading.timestamp_ms, number, RETURNED)


def _returned(
    draft: Draft, rule: Compiled, entry: RuleState, now_ms: int, value: Number | None, reason: str | None
) -> None:
    if entry.status is not Status.FLAPPING:
        flip = Flip(now_ms * 1000, rule.flapping)
        draft.resolve(rule.rule_id, entry, now_ms, value, facts=rule.facts, reason=reason, flip=flip)
    elif entry.flips is not None and not entry.flips.over:
        _flip_absence(draft, rule, entry._replace(facts=rule.facts, value=value), now_ms, over=True)


def _flip_absence(draft: Draft, rule: Compiled, entry: RuleState, now_ms: int, *, over: bool) -> None:
    """An absence whose alert is flapping begins again, or is over."""
    assert entry.flips is not None
    within = rule.flapping.within if rule.flapping else 0
    is_calm = now_ms * 1000 - entry.flips.last >= within
    entry = entry._replace(flips=Flips((now_ms * 1000,), over))
    if is_calm:
        draft.calm(rule.rule_id, entry, now_ms)
    else:
        draft.entries[rule.rule_id] = entry


def _judge_absence(draft: Draft, rule: Compiled, seen_ms: int, now_ms: int, listening_since_ms: int) -> None:
    rule_id = rule.rule_id
    entry = draft.entries.get(rule_id) or RuleState(Status.OK, rule.facts)
    if entry.status is Status.DISABLED:
        return
    if entry.is_open or entry.is_refused:
        assert entry.first_seen is not None
        absent = entry.flips is None or not entry.flips.over
        if absent and seen_ms * 1000 > entry.first_seen:
            _returned(draft, rule, entry, now_ms, None, RETURNED)
            return
        if absent and (now_ms - seen_ms) * 1000 < rule.for_us:
            _returned(draft, rule, entry, now_ms, None, None)
            return
        # An absence that waits for room is not written again at each look.
        if absent and (entry.is_open or not draft.has_room(rule_id)):
            return
    silent_ms = now_ms - max(seen_ms, listening_since_ms)
    if silent_ms * 1000 >= rule.for_us and not entry.is_snoozed(now_ms):
        entry = entry._replace(
            facts=rule.facts, first_seen=seen_ms * 1000, last_seen=now_ms * 1000, violations=1
        )
        if entry.status is Status.FLAPPING:
            _flip_absence(draft, rule, entry._replace(value=None), now_ms, over=False)
            return
        # The number distinguishes it from an earlier absence since the same reading, ended by a command.
        alert_id = draft.derive_id(rule_id, "absent", seen_ms, draft.number)
        draft.trigger(rule_id, entry, alert_id, flip=Flip(now_ms * 1000, rule.flapping))
