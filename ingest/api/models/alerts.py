"""The answers of the routes of alerts."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

Changed = Literal[
    "TRIGGERED", "FLAPPING", "ESCALATED", "RESOLVED", "SNOOZED", "DISABLED", "ENABLED", "ACKNOWLEDGED"
]
"""The statuses that a change of an alert may have."""


class _Judged(BaseModel):
    status: str
    user_id: str
    device_id: str
    rule_id: str
    severity: str | None
    message: str | None
    key: str | None
    operator: str | None
    threshold: Any
    value: Any
    values: dict[str, Any] | None
    first_seen: datetime | None
    last_seen: datetime | None
    count: int | None
    note: str | None


class Alert(_Judged):
    """An alert as it stands."""

    alert_id: str | None = Field(
        description="Null where none is open: of a violation that is pending, a snooze."
    )
    snoozed_until: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    violated: bool | None = Field(description="For a FLAPPING alert: whether its rule is violated now.")


class Alerts(BaseModel):
    """A page of alerts."""

    alerts: list[Alert]
    next: str | None
    known: dict[str, list[str]] | None = Field(
        description="Where none matches: by filter the values that there are, the most frequent first."
    )


class Change(_Judged):
    """One change of an alert."""

    alert_id: str
    time: datetime
    sequence_id: int | None
    reason: str | None
    by: str | None = Field(description="Which user's command it was, if it was one.")


class History(BaseModel):
    """A page of changes, the newest first."""

    changes: list[Change]
    next: str | None
    known: dict[str, list[str]] | None = Field(
        description="Where none matches: by filter the values of the newest changes, the most frequent first;"
        " `time` has the first and the last one."
    )


class Done(BaseModel):
    """The command was executed."""

    ok: bool
