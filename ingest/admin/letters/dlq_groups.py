"""Dead letters counted by reason, device and hour: what goes wrong where, and since when."""

import time
from collections import Counter, deque
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from confluent_kafka import Message as KafkaMessage

from ingest.admin.errors import OperatorError
from ingest.admin.letters.dlq_list import reading
from ingest.admin.letters.dlq_memory import Group, cut, group
from ingest.admin.letters.dlq_outcome import Outlook, Standing, envelope
from tasks.dead_letters.letter import Filters
from tasks.domain.domain import AnyDomain
from tasks.servers.topic_reader import Range, TopicReader

# Memory for a million letters that have nothing in common would be a gigabyte.
MOST_GROUPS = 50_000


class TooManyLetters(OperatorError):
    """There is too much to count in one look."""


class Shown(NamedTuple):
    """A letter with at most the first `MOST_PAYLOAD_BYTES` of its payload, and how long that is."""

    standing: Standing
    payload_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The envelope, and whether the payload in it is not the whole one."""
        is_cut = len(self.standing.letter.payload) < self.payload_bytes
        return {**envelope(self.standing), "payload_bytes": self.payload_bytes, "payload_cut": is_cut}


@dataclass
class Groups:
    """How many letters each group has, and the newest letters, oldest first."""

    counts: Counter[Group] = field(default_factory=Counter)
    newest: list[Shown] = field(default_factory=list)
    database_away: str = ""


class Timed(TopicReader):
    """A reader that gives up when its time is over. Raises `TooManyLetters`."""

    def __init__(self, seconds: float, spent: float = 0) -> None:
        super().__init__()
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds - spent

    def records(self, topic: str, ranges: Mapping[int, Range]) -> Generator[KafkaMessage, None, None]:
        """The same records, as long as there is time."""
        with closing(super().records(topic, ranges)) as records:
            for record in records:
                if time.monotonic() > self._deadline:
                    raise TooManyLetters(
                        f"Reading the dead letters takes longer than {self._seconds:g} s. Ask for a shorter"
                        " time by `since`, or use `sluice dlq list`."
                    )
                yield record


def count(
    domain: AnyDomain, filters: Filters, limit: int, *, handled: bool, seconds: float, spent: float = 0
) -> Groups:
    """The letters that match, read from Kafka; with `handled` also those that are no longer open.

    Takes some 30 MB of memory at most, besides the groups. Raises `TooManyLetters` when it takes longer than
    `seconds`, of which some are spent, or there are too many groups, and `ServerAway`.
    """
    found = Groups()
    newest: deque[Shown] = deque(maxlen=2 * limit)
    with reading(lambda: Timed(seconds, spent)) as reader, Outlook(reader, domain) as outlook:
        for standing in outlook.standings(filters):
            if not (handled or standing.state.is_open):
                continue
            found.counts[group(standing.letter, standing.letter.source)] += 1
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


def _shown(standing: Standing) -> Shown:
    letter = standing.letter
    kept = letter._replace(payload=cut(letter.payload))
    return Shown(standing._replace(letter=kept), len(letter.payload))


def _newest(shown: "deque[Shown]", limit: int) -> list[Shown]:
    return sorted(shown, key=lambda one: one.standing.letter.refused_at)[-limit:]
