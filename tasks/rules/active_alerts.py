"""The rows of `active_alerts`: the entries of the states, kept in SQL, from which lost states are rebuilt."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

from tasks.rules.change import iso
from tasks.rules.flips import Flips
from tasks.rules.model import Judging, Scalar, Threshold, is_for_everyone
from tasks.rules.order import Newest
from tasks.rules.rule import Facts
from tasks.rules.state import (
    Acknowledged,
    DeviceState,
    Position,
    RuleState,
    Status,
    advanced,
    from_us,
    to_us,
)

# An alert that is ACTIVE has the status of its last change, and so has an alert that is over and may flap.
_ROW_STATUS = {
    Status.PENDING: "PENDING",
    Status.ACTIVE: "TRIGGERED",
    Status.SNOOZED: "SNOOZED",
    Status.DISABLED: "DISABLED",
    Status.FLAPPING: "FLAPPING",
    Status.OK: "RESOLVED",
}
_STATUS = {name: status for status, name in _ROW_STATUS.items()}


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """One row; its fields are the columns.

    `status` is PENDING, TRIGGERED, FLAPPING, SNOOZED or DISABLED, or RESOLVED while changes of an alert that
    is over count towards flapping. `alert_id` is null while RESOLVED, while SNOOZED after the alert was
    resolved, and while PENDING unless the alert was refused. `digest` distinguishes conditions. Six columns
    are the device's: the latest record judged (at least when the row was written), the time of its reading,
    how far that was from its arrival (µs), the keys of readings that could come again and not look older, and
    how many changes the device had had. The last two are about flapping: when the alert changed lately, and,
    while FLAPPING, whether the rule is violated.
    """

    user_id: str
    device_id: str
    rule_id: str
    alert_id: str | None
    status: str
    message: str
    severity: str
    key: str | None
    operator: Judging | None
    threshold: Threshold | None
    digest: str | None
    value: Scalar | None
    values: dict[str, Scalar] | None
    sequence_id: int | None
    first_seen: datetime | None
    last_seen: datetime | None
    count: int
    snoozed_until: datetime | None
    command_at: datetime | None
    command_id: str | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    note: str | None
    kafka_partition: int | None
    kafka_offset: int | None
    judged: datetime | None
    skew: int | None
    judged_keys: list[int] | None
    number: int
    changed_at: list[datetime] | None
    violated: bool | None

    @property
    def is_open(self) -> bool:
        """Whether there is an announced alert that is not over."""
        return self.alert_id is not None and self.status in {"TRIGGERED", "SNOOZED", "FLAPPING"}

    @property
    def counts(self) -> bool:
        """Whether it counts towards the limit of a user's open alerts."""
        return self.is_open and not is_for_everyone(self.rule_id)

    def to_record(self) -> dict[str, Any]:
        """The row as JSON can hold it."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.changed_at is not None:
            row["changed_at"] = [iso(time) for time in self.changed_at]
        return {name: iso(value) if isinstance(value, datetime) else value for name, value in row.items()}


class RowChanges(NamedTuple):
    """Changes of `active_alerts`: rows to insert or replace, and rule_ids whose rows are deleted."""

    written: tuple[ActiveAlert, ...]
    gone: tuple[str, ...]


def rows(state: DeviceState) -> tuple[ActiveAlert, ...]:
    """The rows of a device: one for each rule that is not in order, or has changed lately and may flap."""
    return tuple(
        _row(state, rule_id, entry) for rule_id, entry in sorted(state.entries.items()) if entry.has_row
    )


def row_changes(before: DeviceState, after: DeviceState) -> RowChanges:
    """The changes of a device's rows from one state to another, however many readings are in between."""
    old = {rule_id for rule_id, entry in before.entries.items() if entry.has_row}
    present = rows(after)
    return RowChanges(
        tuple(row for row in present if after.entries[row.rule_id] != before.entries.get(row.rule_id)),
        tuple(sorted(old - {row.rule_id for row in present})),
    )


def rebuild(
    user_id: str,
    device_id: str,
    active: Iterable[ActiveAlert],
    *,
    changed: Iterable[tuple[Position, datetime]] = (),
    number: int = 0,
) -> DeviceState:
    """The state of a device from its rows.

    The other arguments come from its latest changes in `alert_history`, and keep readings that come again
    from changing anything where no row is left: of each partition the furthest position of a change and the
    latest `time` of one, and the highest `number` of all.
    """
    entries: dict[str, RuleState] = {}
    furthest: tuple[Position, ...] = ()
    newest: list[Newest] = []
    for row in active:
        entries[row.rule_id] = _entry(row)
        if row.kafka_partition is not None and row.kafka_offset is not None:
            furthest = advanced(furthest, Position(row.kafka_partition, row.kafka_offset))
        if row.judged is not None:
            newest.append(Newest(to_us(row.judged), row.skew or 0, tuple(row.judged_keys or ())))
        number = max(number, row.number)
    for position, time in changed:
        # A row that is as far has the arrival and the keys, too.
        if (further := advanced(furthest, position)) != furthest:
            furthest = further
            newest.append(Newest(to_us(time), 0))
    latest = max(newest, key=lambda one: one.time, default=None)
    return DeviceState(user_id, device_id, entries, furthest, latest, number)


def _row(state: DeviceState, rule_id: str, entry: RuleState) -> ActiveAlert:
    # A device is in one partition, except for a short time after the number of partitions was changed.
    partition, offset = max(state.positions, key=lambda known: known.offset, default=(None, None))
    return ActiveAlert(
        user_id=state.user_id,
        device_id=state.device_id,
        rule_id=rule_id,
        alert_id=entry.alert_id,
        status=_ROW_STATUS[entry.status],
        message=entry.facts.message,
        severity=entry.facts.severity,
        key=entry.facts.key,
        operator=entry.facts.operator,
        threshold=entry.facts.threshold,
        digest=entry.facts.digest,
        value=entry.value,
        values=None if entry.values is None else dict(entry.values),
        sequence_id=entry.sequence_id,
        first_seen=_time(entry.first_seen),
        last_seen=_time(entry.last_seen),
        count=entry.violations,
        snoozed_until=_time_of_ms(entry.snoozed_until),
        command_at=_time_of_ms(entry.command_at),
        command_id=entry.command_id,
        acknowledged_at=_time_of_ms(entry.acknowledged and entry.acknowledged.at_ms),
        acknowledged_by=entry.acknowledged and entry.acknowledged.by,
        note=entry.acknowledged and entry.acknowledged.note,
        kafka_partition=partition,
        kafka_offset=offset,
        judged=_time(state.newest and state.newest.time),
        skew=state.newest and state.newest.skew,
        judged_keys=None if state.newest is None else list(state.newest.keys),
        number=state.number,
        changed_at=None if entry.flips is None else [from_us(time) for time in entry.flips.times],
        violated=None if entry.flips is None or entry.status is not Status.FLAPPING else not entry.flips.over,
    )


def _entry(row: ActiveAlert) -> RuleState:
    return RuleState(
        status=_STATUS[row.status],
        facts=Facts(row.message, row.severity, row.key, row.operator, row.threshold, row.digest),
        alert_id=row.alert_id,
        first_seen=_us(row.first_seen),
        last_seen=_us(row.last_seen),
        violations=row.count,
        value=row.value,
        values=row.values,
        sequence_id=row.sequence_id,
        snoozed_until=_ms(row.snoozed_until),
        command_at=_ms(row.command_at),
        command_id=row.command_id,
        acknowledged=_acknowledged(row),
        flips=_flips(row),
    )


def _flips(row: ActiveAlert) -> Flips | None:
    if not row.changed_at:
        return None
    return Flips(tuple(map(to_us, row.changed_at)), row.violated is False)


def _acknowledged(row: ActiveAlert) -> Acknowledged | None:
    at_ms, by = _ms(row.acknowledged_at), row.acknowledged_by
    return None if at_ms is None or by is None else Acknowledged(at_ms, by, row.note)


def _time(us: int | None) -> datetime | None:
    return None if us is None else from_us(us)


def _time_of_ms(ms: int | None) -> datetime | None:
    return None if ms is None else from_us(ms * 1000)


def _us(time: datetime | None) -> int | None:
    return None if time is None else to_us(time)


def _ms(time: datetime | None) -> int | None:
    return None if time is None else to_us(time) // 1000
