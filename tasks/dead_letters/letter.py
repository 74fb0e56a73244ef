"""A dead letter as it is read back from Kafka, and filters that select dead letters."""

import base64
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tasks import registry
from tasks.domain import routing
from tasks.domain.domain import Source
from tasks.domain.payload import Refused

ALERT_REFUSED = "AlertRefused"
TOO_MANY_ALERTS = "TooManyAlerts"
NOTICE_REFUSED = "NoticeRefused"
ABOUT_ALERTS = frozenset([ALERT_REFUSED, TOO_MANY_ALERTS, NOTICE_REFUSED])
# A message that was refused this often is not replayed unless forced.
MAX_REFUSALS = 3


class NoLetter(ValueError):
    """The record in the dead letters' topic is not a dead letter of Sluice."""


class LetterId(NamedTuple):
    """Identifies a dead letter; a letter that was sent twice has the same one."""

    key: str  # of its record: topic/partition/offset of what was refused, or mqtt/HASH, or alert/HASH
    record_ms: int  # timestamp of that message's record; 0 if the envelope does not have it


class Letter(NamedTuple):
    """One dead letter, with the place of its own record."""

    id: LetterId
    topic: str
    error_type: str
    error: str
    refused_at: datetime
    payload: bytes
    cut: bool
    attempts: int
    traceparent: str
    partition: int | None  # of the refused message; None if it never reached the domain's topic
    offset: int | None
    timestamp_ms: int
    letter_partition: int
    letter_offset: int
    content_type: str = ""
    origin: tuple[int, int] | None = None  # of the record that was refused first, if it is another
    elements: tuple[int, ...] = ()  # indexes of the readings that were refused, of a message with several
    owner: str = ""  # by the access lists, where the topic does not name it

    @property
    def source(self) -> Source | None:
        """User and device, by the topic if it names them, or by the alert."""
        if self.error_type in ABOUT_ALERTS:
            return self._source_of_alert()
        try:
            return routing.domain_of(self.topic, registry.domains()).parse_topic(self.topic, self.owner)
        except Refused:
            return None

    @property
    def is_alert(self) -> bool:
        """Whether it is a change of an alert, which goes to the tables of alerts and never into telemetry."""
        return self.error_type == ALERT_REFUSED

    def _source_of_alert(self) -> Source | None:
        try:
            document = json.loads(self.payload)
            return Source(str(document["user_id"]), str(document["device_id"]))
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def can_be_replayed(self) -> bool:
        """Whether the message was in its domain's topic, and is whole, or is a change of an alert."""
        if self.is_alert:
            return not self.cut
        return self.partition is not None and self.offset is not None and not self.cut


@dataclass(frozen=True)
class Filters:
    """Selects dead letters that match all of these; times are those of the refusal."""

    error_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    user: str | None = None
    device: str | None = None

    def match(self, letter: Letter) -> bool:
        """Whether the letter is selected."""
        if not self.match_refusal(letter.error_type, letter.refused_at):
            return False
        # The source costs the parsing of its topic.
        return (self.user is None and self.device is None) or self.match_source(letter.source)

    def match_refusal(self, error_type: str, refused_at: datetime) -> bool:
        """Whether a letter of this type and time is selected, as far as these decide."""
        if self.error_type is not None and error_type != self.error_type:
            return False
        if self.since is not None and refused_at < self.since:
            return False
        return self.until is None or refused_at < self.until

    def match_source(self, source: Source | None) -> bool:
        """Whether a letter of this sender is selected, as far as that decides."""
        if self.user is None and self.device is None:
            return True
        if source is None:
            return False
        # An id of a device may hold slashes; the namespace before it does not.
        own = source.device_id.partition("/")[2] or source.device_id
        return self.user in {None, source.user_id} and self.device in {None, source.device_id, own}

    def in_hour_of(self, time: datetime) -> "Filters":
        """The same for letters that were refused in the hour (UTC) of that time, as groups of them have it.

        Raises `OverflowError` for the first and the last hour that there are.
        """
        begin = time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        end = begin + timedelta(hours=1)
        return replace(
            self,
            since=begin if self.since is None else max(begin, self.since),
            until=end if self.until is None else min(end, self.until),
        )

    def as_json(self) -> dict[str, Any]:
        """The filters that are set, for `from_json`."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
            if value is not None
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Filters":
        """The inverse of `as_json`."""
        times = {
            name: datetime.fromisoformat(values[name]) for name in ("since", "until") if values.get(name)
        }
        return cls(**{**values, **times})


def parse_letter(
    key: bytes, value: bytes, timestamp_ms: int, letter_partition: int = 0, letter_offset: int = 0
) -> Letter:
    """The letter of a record of a topic of dead letters; `timestamp_ms` is that record's.

    Raises `NoLetter`.
    """
    try:
        envelope = json.loads(value)
        payload = base64.b64decode(envelope["payload_base64"] or "", validate=True)
        partition, offset = envelope.get("kafka_partition"), envelope.get("kafka_offset")
        came_by = registry.of_kafka_topic(envelope.get("kafka_topic"))
        if came_by is None or not (partition >= 0 and offset >= 0):
            partition = offset = None
        record_ms = envelope.get("kafka_timestamp_ms")
        refused_at = datetime.fromisoformat(envelope["timestamp"])
        return Letter(
            LetterId(key.decode(errors="replace"), int(record_ms or 0)),
            _topic(envelope),
            str(envelope.get("error_type") or ""),
            str(envelope.get("error") or ""),
            refused_at if refused_at.tzinfo else refused_at.replace(tzinfo=UTC),
            payload,
            envelope.get("payload_bytes") is not None,
            int(envelope.get("attempts") or 1),
            _encodable(str(envelope.get("traceparent") or "")),
            None if partition is None else int(partition),
            None if offset is None else int(offset),
            timestamp_ms if record_ms is None else int(record_ms),
            letter_partition,
            letter_offset,
            _encodable(str(envelope.get("content_type") or "")),
            _origin(envelope.get("origin")),
            tuple(int(index) for index in envelope.get("elements") or ()),
            _encodable(str(envelope.get("owner") or "")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise NoLetter(f"not the envelope of a dead letter: {error}") from error


def _origin(value: Any) -> tuple[int, int] | None:
    return None if value is None else (int(value[0]), int(value[1]))


def _topic(envelope: dict[str, Any]) -> str:
    exact = envelope.get("original_topic_base64")
    if exact is None:
        return _encodable(str(envelope["original_topic"]))
    return base64.b64decode(exact, validate=True).decode(errors="surrogateescape")


def _encodable(text: str) -> str:
    """The text, unchanged. Raises `UnicodeEncodeError` if a header cannot hold it."""
    text.encode()
    return text
