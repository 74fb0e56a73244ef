"""The requests and answers of the routes of dead letters."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ingest.api.inputs import Storable


class LettersWanted(BaseModel):
    """A choice of open dead letters: those that match everything that is set."""

    model_config = ConfigDict(strict=True, extra="forbid")

    user: Storable | None = None
    device: Storable | None = None
    domain: Storable | None = None
    error_type: Storable | None = None
    since: Storable | None = Field(None, description="A time, or a span back from now: `90m`, `7d`.")
    until: Storable | None = None
    hour: Storable | None = Field(
        None, description="Refused in the hour (UTC) of this time, as `groups` of `GET dead-letters` have it."
    )


class ReplayWanted(LettersWanted):
    """The open dead letters to send through the pipeline again."""

    limit: int = Field(10_000, description="At most this many, the oldest first.")
    dry_run: bool = Field(False, description="Only count what would be replayed.")
    alerts: bool = Field(False, description="Apply the alert rules, as if the readings came now.")
    force: bool = Field(False, description="Include letters that were refused three times.")


class AcknowledgementWanted(LettersWanted):
    """The open dead letters that need no action; at least one of the filters is set."""

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


class WholeLetter(BaseModel):
    """One dead letter, with its message as it came."""

    key: str
    state: str = Field(description="`open`, or what became of it.")
    error_type: str
    error: str = Field(description="Why it was refused.")
    timestamp: datetime = Field(description="When it was refused, as in the list.")
    attempts: int = Field(description="How often it was refused.")
    user_id: str = Field(description="Empty where the topic names none.")
    device_id: str
    original_topic: str = Field(description="The MQTT topic that it was sent to.")
    content_type: str | None
    traceparent: str | None
    kafka_topic: str | None = Field(description="Where its record is or was; null if it never had one.")
    kafka_partition: int | None
    kafka_offset: int | None
    kafka_timestamp_ms: int | None
    first_place: tuple[int, int] | None = Field(
        description="Partition and offset of the record that was refused first, if it is another."
    )
    elements: list[int] = Field(description="The refused readings of a message that has several.")
    stored: Any = Field(description="For a conflict, the row that is in its place.")
    payload: str | None = Field(description="As text; null where it is not printable.")
    payload_base64: str
    payload_bytes: int
    payload_cut: bool = Field(description="Whether the dead letter itself has less than the message had.")


class LetterGroup(BaseModel):
    """How many dead letters have the same reason, device and hour."""

    error_type: str
    user_id: str = Field(description="Empty where the topic names none.")
    device_id: str
    hour: datetime = Field(description="The start of the hour (UTC) of the refusal.")
    letters: int


class Letters(BaseModel):
    """Dead letters, counted and the newest of them."""

    total: int
    groups: list[LetterGroup] = Field(description="The newest hour first, in it the largest group.")
    groups_left_out: int
    letters: list[dict[str, Any]] = Field(
        description="The newest, as `sluice dlq list --json` has them, but of each payload at most 4 KiB;"
        " `payload_cut` says whether it is more; `path` is where the whole letter is in this API."
    )
    note: str | None = Field(description="What could not be found out, such as which were replayed.")
    known: dict[str, list[str]] | None = Field(
        description="Where none matches: by filter the values of open letters, the most frequent first;"
        " `refused_at` has the first and the last time."
    )
