"""The requests and answers of the routes of channels."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ingest.api.inputs import Storable
from ingest.api.models.alerts import Changed


class ChannelWanted(BaseModel):
    """The wanted state of a channel."""

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
    """A channel without its secrets, and what became of the changes that it sends."""

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
    superseded: int = Field(description="Not sent after a quiet window: no longer needed.")
    sent: int
    failed: int
    sent_at: datetime | None
    why: str | None = Field(description="The reason of the last failure.")
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
    why: str | None = Field(description="The reason of the last failure.")
    created_at: datetime
    done_at: datetime | None
    next_at: datetime | None = Field(description="The time of the next attempt, while it waits.")
    held_until: datetime | None


class Deliveries(BaseModel):
    """A page of deliveries, the newest first."""

    deliveries: list[Delivery]
    next: str | None


class Tried(BaseModel):
    """Whether a channel has taken a message that says it is a test."""

    ok: bool
    why: str | None = Field(None, description="Why it has not.")
