"""A change of an alert: what is published to the user, once, or what is refused."""

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid5

from tasks.rules.model import Judging, Scalar, Threshold
from tasks.rules.state import Position

ChangeStatus = Literal[
    "TRIGGERED",
    "FLAPPING",
    "ESCALATED",
    "RESOLVED",
    "SNOOZED",
    "DISABLED",
    "ENABLED",
    "ACKNOWLEDGED",
    "REFUSED",
]
"""REFUSED is an alert that is not triggered because its user has too many open. It becomes a dead letter; the
user is not notified, and `alert_history` does not have it."""
REFUSED: ChangeStatus = "REFUSED"

# The same trigger gives the same id under this name, wherever and whenever it is judged.
_NAMESPACE = UUID("5c1f0a52-6d0e-5b57-9d6c-0f6a3a1f7c11")

# Why an alert was triggered or is over, if its rule and a reading do not show it.
RULE_REMOVED = "rule_removed"
RULE_CHANGED = "rule_changed"  # the rule_id now stands for another key or operator
SNOOZE_ENDED = "snooze_ended"
RETURNED = "returned"  # what was absent
CALM = "calm"  # it was flapping

# Left out of a notification where they are empty.
_OPTIONAL = ("values", "reason", "by", "note")
_UNPUBLISHED = {"number", "kafka_partition", "kafka_offset"}
_UNRECORDED = {"position", "is_open"}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one alert. `number` counts the changes of a device, so the two identify it forever.

    `time` is that of the reading that caused it, or else of the command or the clock. `first_seen`,
    `last_seen` and `count` describe the violation; `value` is the latest one, or for RESOLVED the one that
    resolved it, and `values` are those of a rule that compares several, by their keys. `position` is the
    Kafka record that caused it, if one did. `is_open` says whether the rule has an open alert after it.
    """

    alert_id: str
    status: ChangeStatus
    user_id: str
    device_id: str
    rule_id: str
    message: str
    severity: str
    key: str | None
    operator: Judging | None
    threshold: Threshold | None
    value: Scalar | None
    values: dict[str, Scalar] | None
    time: datetime
    sequence_id: int | None
    first_seen: datetime | None
    last_seen: datetime | None
    count: int
    reason: str | None
    by: str | None
    note: str | None
    number: int
    position: Position | None
    is_open: bool = False

    def to_json(self) -> bytes:
        """The notification, as published; without those of `_OPTIONAL` that are empty."""
        return notice(self.to_record())

    def to_record(self) -> dict[str, Any]:
        """Everything, as JSON can hold it, by the names of the columns of `alert_history`."""
        record = {name: getattr(self, name) for name in RECORDED}
        for name in ("time", "first_seen", "last_seen"):
            record[name] = None if record[name] is None else iso(record[name])
        record["kafka_partition"], record["kafka_offset"] = self.position or (None, None)
        return record


RECORDED = tuple(field.name for field in fields(Change) if field.name not in _UNRECORDED)
"""The fields that are columns of `alert_history` by the same name."""


def notice(record: dict[str, Any]) -> bytes:
    """The notification of a change, from its record."""
    silent = {name for name in _OPTIONAL if record.get(name) is None}
    public = {name: value for name, value in record.items() if name not in _UNPUBLISHED | silent}
    return json.dumps(public, ensure_ascii=False, separators=(",", ":")).encode()


def derive_id(user_id: str, device_id: str, rule_id: str, kind: str, *trigger: object) -> str:
    """The id of an alert: the same for the same trigger, another for any other."""
    parts = json.dumps([user_id, device_id, rule_id, kind, *trigger], separators=(",", ":"))
    return str(uuid5(_NAMESPACE, parts))


def iso(time: datetime) -> str:
    """An RFC 3339 time in UTC, with a Z."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
