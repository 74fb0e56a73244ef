"""Dead letters counted by reason, device and hour: what goes wrong where, and since when."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from confluent_kafka import Message as KafkaMessage

from ingest.admin.dlq_list import reading
from ingest.admin.dlq_outcome import Outlook, Standing, envelope
from ingest.admin.errors import OperatorError
from tasks.dead_letters.letter import Filters
from tasks.domain.domain import AnyDomain
from tasks.servers.topic_reader import Range, TopicReader

# Memory for a million letters that have nothing in common would be a gigabyte.
MOST_GROUPS = 50_000
# The newest letters are held with this much of their payloads: 1,000 whole ones may have 256 MB.
MOST_PAYLOAD_BYTES = 4096


class TooManyLetters(OperatorError):
    """There is too much to count in one look."""


class Group(NamedTuple):
    """What letters have in common; the user and the device are empty where the topic names none."""

    error_type: str
    user_id: str
    device_id: str
    hour: datetime


class Shown(NamedTuple):
    """A letter with at most the first `MOST_PAYLOAD_BYTES` of its payload, and how long that is."""

    standing: Standing
    payload_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The envelope, and whether the payload in it is not the whole one."""
        cut = len(self.standing.letter.payload) < self.payload_bytes
        return {**envelope(self.standing), "payload_bytes": self.payload_bytes, "payload_cut": cut}


@dataclass
class Groups:
    """How many letters each group has, and the newest letters, oldest first."""

    counts: Counter[Group] = field(default_factory=Counter)
    newest: list[Shown] = field(default_factory=list)
    database_away: str = ""


class Timed(TopicReader):
    """A reader that gives up when its time is over. Raises `TooManyLetters`."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def records(self, topic: str, ranges: Mapping[int, Range]) -> Iterator[KafkaMessage]:
        """The same records, as long as there is time."""
        for record in super().records(topic, ranges):
            if time.monotonic() > self._deadline:
                raise TooManyLetters(
                    f"Reading the dead letters takes longer than {self._seconds:g} s. Ask for a shorter time"
                    " by `since`, or use `sluice dlq list`."
                )
            yield record


def count(domain: AnyDomain, filters: Filters, limit: int, *, handled: bool, seconds: float) -> Groups:
    """The letters that match; with `handled` also those that are no longer open.

    Takes some 30 MB of memory at most, besides the groups. Raises `TooManyLetters` when it takes longer than
    `seconds`, or there are too many groups, and `ServerAway`.
    """
    found = Groups()
    newest: deque[Shown] = deque(maxlen=2 * limit)
    with reading(lambda: Timed(seconds)) as reader, Outlook(reader, domain) as outlook:
        for standing in outlook.standings(filters):
            if not (handled or standing.state.is_open):
                continue
            found.counts[_group(standing)] += 1
            if len(found.counts) > MOST_GROUPS:
                raise TooManyLetters(
                    f"The dead letters have more than {MOST_GROUPS:,} different reasons, devices and hours."
                    " Ask for a shorter time by `since`, or for one user or error type."
                )
            newest.append(_shown(standing))
            if len(newest) == newest.maxlen:
                newest = deque(_newest(newest, limit), maxlen=2 * limit)
        found.newest, found.database_away = _newest(newest, limit), outlook.database_away
    return found


def _group(standing: Standing) -> Group:
    letter = standing.letter
    source = letter.source
    hour = letter.refused_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return Group(
        letter.error_type,
        "" if source is None else source.user_id,
        "" if source is None else source.device_id,
        hour,
    )


def _shown(standing: Standing) -> Shown:
    payload = standing.letter.payload
    if len(payload) <= MOST_PAYLOAD_BYTES:
        return Shown(standing, len(payload))
    end = MOST_PAYLOAD_BYTES
    # Not inside a character of UTF-8: its further bytes begin with the bits 10.
    while end > MOST_PAYLOAD_BYTES - 3 and payload[end] & 0xC0 == 0x80:
        end -= 1
    return Shown(standing._replace(letter=standing.letter._replace(payload=payload[:end])), len(payload))


def _newest(shown: "deque[Shown]", limit: int) -> list[Shown]:
    return sorted(shown, key=lambda one: one.standing.letter.refused_at)[-limit:]
