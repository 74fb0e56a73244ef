"""What the HTTP API answers, for its description."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ingest.api.inputs import storable

Storable = Annotated[str, AfterValidator(storable)]
Changed = Literal[
    "TRIGGERED", "FLAPPING", "ESCALATED", "RESOLVED", "SNOOZED", "DISABLED", "ENABLED", "ACKNOWLEDGED"
]
"""What an alert may change to."""


class Device(BaseModel):
    """A device as the registry has it."""

    user_id: str
    device_id: str = Field(description="With the namespace of its domain before it, if it has one.")
    domain: str
    path: str = Field(description="Where the device is in this API.")
    first_seen: datetime
    last_seen: datetime = Field(description="Arrival of its last message, also of a refused one.")
    own_time: datetime | None = Field(description="The device's own time of the reading that came last.")
    clock_skew_ms: int | None
    refused_at: datetime | None
    refused_type: str | None
    refused_reason: str | None
    online: bool | None = Field(description="As its last will says; null without one.")
    online_at: datetime | None


class ListedDevice(Device):
    """A device in a list, with its counts of today (UTC)."""

    messages_today: int
    dead_letters_today: int


class Devices(BaseModel):
    """A page of devices."""

    devices: list[ListedDevice]
    next: str | None = Field(description="The `cursor` of the next page; null at the end.")


class Day(BaseModel):
    """What a device sent on one day (UTC)."""

    day: date
    messages: int
    dead_letters: int


class Latest(Device):
    """A device with its newest reading and its last 30 days."""

    reading: dict[str, Any] | None = Field(description="A row of the domain's table, or null.")
    days: list[Day]


class Point(BaseModel):
    """One bucket."""

    time: datetime = Field(description="Its begin.")
    value: float | None
    count: int = Field(description="How many values it has.")


class Series(BaseModel):
    """One field of a device over time. A bucket without a value is left out."""

    user_id: str
    device_id: str
    key: str
    agg: str
    begin: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    bucket_seconds: float
    points: list[Point]


class Alert(BaseModel):
    """An alert as it stands."""

    alert_id: str | None = Field(
        description="Null where none is open: of a violation that is pending, a snooze."
    )
    user_id: str
    device_id: str
    rule_id: str
    status: str
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
    snoozed_until: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    note: str | None
    violated: bool | None = Field(description="Of one that is FLAPPING: whether its rule is violated now.")


class Alerts(BaseModel):
    """A page of alerts."""

    alerts: list[Alert]
    next: str | None


class Change(BaseModel):
    """One change of an alert."""

    alert_id: str
    status: str
    time: datetime
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
    sequence_id: int | None
    first_seen: datetime | None
    last_seen: datetime | None
    count: int | None
    reason: str | None
    by: str | None = Field(description="Which user's command it was, if it was one.")
    note: str | None


class History(BaseModel):
    """A page of changes, the newest first."""

    changes: list[Change]
    next: str | None


class Rules(BaseModel):
    """A user's rules as they are stored, and what is wrong with those that are not in force."""

    user_id: str
    rules: list[Any]
    updated_at: datetime | None
    faults: list[dict[str, Any]]
    operator_rules: list[dict[str, Any]] = Field(
        description="Those of the operator, in force for every user; their ids begin with `operator:`."
    )


class Fault(BaseModel):
    """A fault or a warning, with its place in the document."""

    path: str
    message: str


class RulesSet(BaseModel):
    """The user's rules are those of the document."""

    rules: int = Field(description="How many.")
    warnings: list[Fault] = Field(description="Rules that are accepted and can never fire, for example.")


class Firing(BaseModel):
    """One alert that a rule would have raised."""

    device_id: str
    begin: datetime
    end: datetime | None = Field(description="Null where it would be open still.")
    value: Any = Field(description="What triggered it; null of an absence.")
    flap: bool = Field(description="Whether it came within five minutes of the end of the one before.")
    flapping: bool = Field(description="Whether it began as FLAPPING: of all its changes one is told.")


class RehearsedRule(BaseModel):
    """How often a rule would have fired, and when."""

    rule_id: str
    fired: int
    flaps: int
    flapping: int
    seconds: float = Field(description="For how long its alerts would have been open, all together.")
    firings: list[Firing] = Field(description="The first of them, 100 at most.")


class Rehearsal(BaseModel):
    """What rules would have done on stored readings. Nothing was changed and nobody was told."""

    user_id: str
    begin: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    readings: int
    devices: int
    rules: list[RehearsedRule] = Field(description="Those that are about the domain.")


class Done(BaseModel):
    """The command was executed."""

    ok: bool


class ChannelWanted(BaseModel):
    """What a channel is to be."""

    model_config = ConfigDict(strict=True, extra="forbid")

    kind: Literal["webhook", "mail", "apprise"]
    target: Storable = Field(
        min_length=3, max_length=2000, description="A URL, or a mail address. No answer repeats a URL."
    )
    secret: Storable | None = Field(
        None,
        min_length=16,
        max_length=256,
        description="Signs the messages of a webhook, which needs one when it is new; without one it keeps"
        " the one that it has. No answer repeats it.",
    )
    severities: list[Storable] | None = Field(
        None, min_length=1, max_length=16, description="Only alerts of these; by default of every severity."
    )
    statuses: list[Changed] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Only changes to these; by default TRIGGERED, FLAPPING, ESCALATED and RESOLVED.",
    )
    template: Storable | None = Field(None, description="The text, such as `$device_id: $message`.")
    enabled: bool = True


class Channel(BaseModel):
    """A channel without its secrets, and what became of the changes that it tells."""

    user_id: str
    name: str
    kind: str
    target: str = Field(description="As much of it as may be read: of a webhook its host.")
    severities: list[str] | None
    statuses: list[str]
    template: str | None
    enabled: bool
    created_at: datetime
    waiting: int
    held: int = Field(description="By a quiet window.")
    superseded: int = Field(description="Needed no telling after a quiet window.")
    sent: int
    failed: int
    sent_at: datetime | None
    why: str | None = Field(description="Of the last failure.")
    failures: int = Field(description="In a row, up to now.")
    rests_until: datetime | None


class Channels(BaseModel):
    """A page of channels."""

    channels: list[Channel]
    next: str | None


class Delivery(BaseModel):
    """One change of an alert on its way to a channel."""

    alert_id: str
    status: str
    time: datetime
    device_id: str
    rule_id: str
    state: str = Field(description="`waiting`, `held`, `sent`, `failed` or `superseded`.")
    attempts: int
    why: str | None = Field(description="Of the last failure.")
    created_at: datetime
    done_at: datetime | None
    next_at: datetime | None = Field(description="Of the next attempt, while it waits.")
    held_until: datetime | None


class Deliveries(BaseModel):
    """A page of deliveries, the newest first."""

    deliveries: list[Delivery]
    next: str | None


class Tried(BaseModel):
    """Whether a channel has taken a message that says it is a test."""

    ok: bool
    why: str | None = Field(None, description="Why it has not.")


class NewAccounts(BaseModel):
    """Accounts to be made: of these devices, or without any the account of the user's own programs."""

    model_config = ConfigDict(strict=True, extra="forbid")

    user: Storable = Field(min_length=1, max_length=128)
    devices: list[Storable] = Field(default=[], max_length=10_000)


class Credential(BaseModel):
    """What an account logs in with; the password is told this once."""

    username: str
    password: str


class Credentials(BaseModel):
    """One for each account, in the order of the request."""

    accounts: list[Credential]


class LettersWanted(BaseModel):
    """Which open dead letters are meant: those that match all that is set."""

    model_config = ConfigDict(strict=True, extra="forbid")

    user: Storable | None = None
    device: Storable | None = None
    domain: Storable | None = None
    error_type: Storable | None = None
    since: Storable | None = Field(None, description="A time, or a span back from now: `90m`, `7d`.")
    until: Storable | None = None


class ReplayWanted(LettersWanted):
    """Which open dead letters to send through the pipeline again."""

    limit: int = Field(10_000, description="At most this many, the oldest first.")
    dry_run: bool = Field(False, description="Only count what would be replayed.")
    alerts: bool = Field(False, description="Apply the alert rules, as if the readings came now.")
    force: bool = Field(False, description="Include letters that were refused three times.")


class AcknowledgementWanted(LettersWanted):
    """Which open dead letters need no action; at least one of the filters is set."""

    dry_run: bool = Field(False, description="Only count what would be acknowledged.")


class Acknowledged(BaseModel):
    """Dead letters that are closed; they stay in Kafka until its retention takes them."""

    letters: int
    dry_run: bool
    run_id: str | None = Field(description="How the operators' trail names it; null if none was closed.")


class Replay(BaseModel):
    """A replay, which the workers go on with whoever looks."""

    run_id: str
    path: str = Field(description="Where it is in this API.")
    begun: bool
    ended: bool
    dry_run: bool
    counts: dict[str, int]
    error: str | None


class Account(BaseModel):
    """An MQTT account, without secrets."""

    username: str
    kind: str
    user_id: str | None
    device_id: str | None
    enabled: bool
    created_at: datetime
    rotated_at: datetime


class Accounts(BaseModel):
    """A page of accounts."""

    accounts: list[Account]
    next: str | None


class LetterGroup(BaseModel):
    """How many dead letters have the same reason, device and hour."""

    error_type: str
    user_id: str = Field(description="Empty where the topic names none.")
    device_id: str
    hour: datetime = Field(description="The begin of the hour (UTC) of the refusal.")
    letters: int


class Letters(BaseModel):
    """Dead letters, counted and the newest of them."""

    total: int
    groups: list[LetterGroup] = Field(description="The newest hour first, in it the largest group.")
    groups_left_out: int
    letters: list[dict[str, Any]] = Field(
        description="The newest, as `sluice dlq list --json` has them, but of each payload at most 4 KiB;"
        " `payload_cut` says whether it is more."
    )
    note: str | None = Field(description="What could not be found out, such as which were replayed.")
