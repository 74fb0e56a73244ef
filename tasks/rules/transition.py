"""A transition of a device: its next state while it is built, and the changes on the way."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from tasks.rules import flips
from tasks.rules.change import CALM, REFUSED, SNOOZE_ENDED, Change, ChangeStatus, derive_id
from tasks.rules.model import Scalar, is_for_everyone
from tasks.rules.rule import Facts
from tasks.rules.state import DeviceState, Position, RuleState, Status, counted, from_us


class Cause(NamedTuple):
    """The cause of a transition: a reading, with its position and sequence_id, a command, or the clock."""

    time: datetime
    position: Position | None = None
    sequence_id: int | None = None
    by: str | None = None


class Flip(NamedTuple):
    """A change that counts towards flapping: when it is (µs), and how many may be."""

    at: int
    limit: flips.Limit | None


UNCOUNTED = Flip(0, None)


class Draft:
    """Collects entries and changes; the state that it starts from is not modified.

    `room` is how many more alerts of the user may be open; None is any number.
    """

    def __init__(self, state: DeviceState, cause: Cause, room: int | None = None) -> None:
        self.state = state
        self.cause = cause
        self._room = room
        self.entries = dict(state.entries)
        self.before = state.before
        self.changes: list[Change] = []

    @property
    def number(self) -> int:
        """How many changes the device has had, those of this draft included."""
        return self.state.number + len(self.changes)

    def has_room(self, rule_id: str) -> bool:
        """Whether one more alert of the user may be open; there is always room for the operator's rules."""
        if self._room is None or is_for_everyone(rule_id):
            return True
        return counted(self.entries) - self.state.open_alerts < self._room

    def derive_id(self, rule_id: str, kind: str, *trigger: object) -> str:
        """The id of an alert of this device."""
        return derive_id(self.state.user_id, self.state.device_id, rule_id, kind, *trigger)

    def trigger(
        self,
        rule_id: str,
        entry: RuleState,
        alert_id: str,
        reason: str | None = None,
        flip: Flip = UNCOUNTED,
    ) -> None:
        """Opens an alert of the rule and announces it; without room for it, the alert is refused.

        An alert that has changed too often is announced as FLAPPING.
        """
        if not (entry.is_open or self.has_room(rule_id)):
            self._refuse(rule_id, entry, alert_id)
            return
        flapping = flips.too_many(entry.flips, flip.limit, flip.at)
        entry = entry._replace(
            status=Status.FLAPPING if flapping else Status.ACTIVE,
            alert_id=alert_id,
            snoozed_until=None,
            acknowledged=None,  # which is of one alert
            flips=flips.Flips((flip.at,)) if flapping else flips.noted(entry.flips, flip.limit, flip.at),
        )
        self.entries[rule_id] = entry
        self.add_change("FLAPPING" if flapping else "TRIGGERED", rule_id, entry, alert_id, reason)

    def _refuse(self, rule_id: str, entry: RuleState, alert_id: str) -> None:
        """Lets the rule wait for room; reports it once, however often the rule is violated meanwhile."""
        refused = entry._replace(
            status=Status.PENDING, alert_id=entry.alert_id or alert_id, snoozed_until=None
        )
        self.entries[rule_id] = refused
        if not entry.is_refused:
            self.add_change(REFUSED, rule_id, refused, alert_id)

    def renew(self, rule_id: str, entry: RuleState) -> None:
        """Announces an open alert again after its snooze, under a new id.

        Under the old id the announcement would look like a redelivered one. The clock and a reading derive
        the same new id, whichever comes first.
        """
        alert_id = self.derive_id(rule_id, "renewed", entry.alert_id)
        self.trigger(rule_id, entry, alert_id, SNOOZE_ENDED)

    def resolve(
        self,
        rule_id: str,
        entry: RuleState,
        now_ms: int,
        value: Scalar | None,
        values: Mapping[str, Scalar] | None = None,
        *,
        facts: Facts | None = None,
        reason: str | None = None,
        flip: Flip = UNCOUNTED,
    ) -> None:
        """Ends the alert. The end of an open one is announced, also during a snooze, which goes on."""
        assert entry.alert_id is not None
        if not entry.is_refused:
            ended = entry._replace(facts=facts or entry.facts, value=value, values=values)
            self.add_change("RESOLVED", rule_id, ended, entry.alert_id, reason)
            # Changes during a snooze are not counted.
            counts = entry.status is Status.ACTIVE
            entry = entry._replace(flips=flips.noted(entry.flips, flip.limit, flip.at) if counts else None)
        self.clear(rule_id, entry, now_ms)

    def calm(self, rule_id: str, entry: RuleState, now_ms: int) -> None:
        """Ends the flapping of an alert: it goes on under its id if the rule is violated, or is over."""
        alert_id = entry.alert_id
        assert entry.flips is not None
        assert alert_id is not None
        if entry.flips.over:
            self.resolve(rule_id, entry, now_ms, entry.value, entry.values, reason=CALM)
            return
        entry = entry._replace(status=Status.ACTIVE, flips=None)
        self.entries[rule_id] = entry
        self.add_change("TRIGGERED", rule_id, entry, alert_id, CALM)

    def clear(self, rule_id: str, entry: RuleState, now_ms: int) -> None:
        """Notes that the rule is no longer violated: a snooze, the last command, and how often the alert has
        changed are kept.
        """
        calm = entry.in_order()
        if entry.is_snoozed(now_ms):
            self.entries[rule_id] = calm._replace(status=Status.SNOOZED, snoozed_until=entry.snoozed_until)
        elif entry.flips is not None:
            self.entries[rule_id] = calm._replace(flips=entry.flips)
        elif entry.command_at is not None:
            self.entries[rule_id] = calm
        else:
            self.entries.pop(rule_id, None)

    def add_change(
        self, status: ChangeStatus, rule_id: str, entry: RuleState, alert_id: str, reason: str | None = None
    ) -> None:
        """Adds a change."""
        facts = entry.facts
        self.changes.append(
            Change(
                alert_id=alert_id,
                status=status,
                user_id=self.state.user_id,
                device_id=self.state.device_id,
                rule_id=rule_id,
                message=facts.message,
                severity=facts.severity,
                key=facts.key,
                operator=facts.operator,
                threshold=facts.threshold,
                value=entry.value,
                values=None if entry.values is None else dict(entry.values),
                time=self.cause.time,
                sequence_id=self.cause.sequence_id,
                first_seen=None if entry.first_seen is None else from_us(entry.first_seen),
                last_seen=None if entry.last_seen is None else from_us(entry.last_seen),
                count=entry.violations,
                reason=reason,
                by=self.cause.by,
                note=entry.acknowledged.note if entry.acknowledged and status == "ACKNOWLEDGED" else None,
                number=self.number + 1,
                position=self.cause.position,
                is_open=entry.is_open and status not in {"RESOLVED", "DISABLED"},
            )
        )

    def finish(self) -> DeviceState:
        """The next state; the previous object itself if nothing changed."""
        if self.entries == self.state.entries and not self.changes and self.before == self.state.before:
            return self.state
        return self.state._replace(entries=self.entries, number=self.number, before=self.before)
