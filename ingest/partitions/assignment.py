"""Where the bridge begins to read a partition: what is lost there, and whether its offsets begin again.

With each committed offset the bridge leaves a note of what it belongs to. Kafka keeps the two together.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from tasks.observe.metrics import bridge as metrics
from tasks.servers import kafka
from tasks.settings import Settings

log = structlog.get_logger()

ANSWER_SECONDS = 5.0
LOOK_SECONDS = 10.0
DOUBT_SECONDS = 5.0
# In the place of a time: where the records of a partition end, and where they begin.
END, BEGINNING = -1, -2
# Kafka takes 4 kB with an offset.
MOST_SKIPPED = 50

Partition = tuple[str, int]
"""A topic and the number."""
Skipped = tuple[int, int, int]
"""The first and the last offset of records that Kafka dropped unread, and when that was noticed (s)."""


class Note(NamedTuple):
    """The topic that an offset belongs to: its id, how many partitions it had, and what was skipped before.

    `begun_again` counts how often Kafka has lost records at the end of a partition of this id, whose offsets
    then come a second time: after an unclean election, or a damaged disk.
    """

    topic_id: str = ""
    partitions: int = 0
    skipped: tuple[Skipped, ...] = ()
    begun_again: int = 0

    @property
    def incarnation(self) -> str:
        """Names what the offsets belong to: under another name an old offset is that of a new record."""
        return f"{self.topic_id}~{self.begun_again}" if self.begun_again else self.topic_id

    def pack(self) -> str:
        """The note as the metadata of an offset; `unpack` is the inverse."""
        return json.dumps(self._asdict(), separators=(",", ":"))


class Start(NamedTuple):
    """Where to begin, the note for the offsets from there on, and what is to be reported."""

    offset: int
    note: Note
    skipped: Skipped | None = None
    made_again: bool = False
    added: int = 0


def unpack(metadata: str | None) -> Note:
    """The note; an empty one for what an older bridge has left, or somebody else."""
    try:
        document = json.loads(metadata or "{}")
        skipped = tuple((int(first), int(last), int(at)) for first, last, at in document.get("skipped", ()))
        topic_id, partitions = str(document.get("topic_id", "")), int(document.get("partitions", 0))
        return Note(topic_id, partitions, skipped, int(document.get("begun_again", 0)))
    except (ValueError, TypeError, AttributeError):
        return Note()


def begin(committed: int, before: Note, low: int, high: int, now: Note, at: int) -> Start:
    """Where to begin in a partition that has records from `low` up to, and without, `high`.

    `committed` is negative where nothing is committed; `before` is the note that came with it, and `now` says
    what the topic is `at` this time (s).
    """
    added = max(0, now.partitions - before.partitions) if before.partitions else 0
    if committed < 0:
        return Start(low, now)
    if before.topic_id not in {"", now.topic_id}:
        return Start(low, now, made_again=True, added=added)
    now = now._replace(begun_again=before.begun_again)
    if committed > high:
        return Start(low, now._replace(begun_again=now.begun_again + 1), made_again=True, added=added)
    if committed < low:
        skipped = (committed, low - 1, at)
        note = now._replace(skipped=(*before.skipped, skipped)[-MOST_SKIPPED:])
        return Start(low, note, skipped, added=added)
    return Start(committed, now._replace(skipped=before.skipped), added=added)


def agreed(starts: dict[Partition, Start], others: dict[Partition, Note]) -> dict[Partition, Start]:
    """The starts, with one `begun_again` for all partitions of a topic: the highest, `others` included.

    A partition that goes from one bridge to another then never goes back to a name of before.
    """
    highest: dict[tuple[str, str], int] = {}
    notes = [*others.items(), *((place, start.note) for place, start in starts.items())]
    for (topic, _), note in notes:
        highest[topic, note.topic_id] = max(note.begun_again, highest.get((topic, note.topic_id), 0))
    return {
        place: start._replace(note=start.note._replace(begun_again=highest[place[0], start.note.topic_id]))
        for place, start in starts.items()
    }


class Topics:
    """Asks Kafka what the topics are; their ids change when they are deleted and made again."""

    def __init__(self, chosen: Settings) -> None:
        self._admin = AdminClient({**kafka.connection(chosen), "client.id": "sluice-bridge", "log_level": 0})
        self.ids: dict[str, str] = {}  # by which the positions go; none before `starts`
        self._asked: dict[str, Future[Any]] = {}
        self._ask_at = 0.0
        self._doubted = False
        self._doubted_at = 0.0

    def starts(
        self, consumer: Consumer, partitions: Sequence[TopicPartition]
    ) -> dict[Partition, Start] | None:
        """Where to begin in each partition; nothing when Kafka does not say so within seconds."""
        self._doubted = False
        if not partitions:
            return {}
        try:
            return self._starts(consumer, partitions)
        except (KafkaException, TimeoutError) as error:
            log.warning("positions_not_read", error=str(error))
            self.doubt()
            return None

    def doubt(self) -> None:
        """Makes `changed` say yes, after a pause since it did so last."""
        self._doubted = True

    def _starts(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> dict[Partition, Start]:
        topics = sorted({one.topic for one in partitions})
        described = {name: future.result(ANSWER_SECONDS) for name, future in self._describe(topics).items()}
        own = {(one.topic, one.partition) for one in partitions}
        every = [TopicPartition(name, one.id) for name in topics for one in described[name].partitions]
        committed = consumer.committed(every, ANSWER_SECONDS)
        asked = [TopicPartition(*place) for place in sorted(own)]
        lows, highs = _ends(consumer, asked, BEGINNING), _ends(consumer, asked, END)
        found: dict[Partition, Start] = {}
        others: dict[Partition, Note] = {}
        for one in committed:
            if one.error is not None:
                raise KafkaException(one.error)
            place = (one.topic, one.partition)
            if place not in own:
                others[place] = unpack(one.metadata)
                continue
            topic = described[one.topic]
            now = Note(_id(topic), len(topic.partitions))
            high = highs[place]
            before, low = unpack(one.metadata), lows.get(place, high)
            found[place] = begin(one.offset, before, low, high, now, int(time.time()))
        self.ids = {name: _id(topic) for name, topic in described.items()}
        self._asked = {}
        return agreed(found, others)

    def changed(self, now: float) -> bool:
        """Whether `starts` may be others by now; asks Kafka now and then, and waits for nothing."""
        if self._doubted and now >= self._doubted_at + DOUBT_SECONDS:
            self._doubted_at = now
            return True
        if self._asked and all(future.done() for future in self._asked.values()):
            answers, self._asked = self._asked, {}
            return any(
                future.exception() is None and _id(future.result()) != self.ids.get(name)
                for name, future in answers.items()
            )
        if not self._asked and self.ids and now >= self._ask_at:
            self._ask_at = now + LOOK_SECONDS
            self._asked = self._describe(sorted(self.ids))
        return False

    def _describe(self, topics: list[str]) -> dict[str, Future[Any]]:
        found: dict[str, Future[Any]] = self._admin.describe_topics(
            TopicCollection(topics), request_timeout=ANSWER_SECONDS
        )
        return found


def _id(topic: Any) -> str:
    # Brokers that know no ids give none, or one of zeros only.
    found = str(topic.topic_id or "")
    return found if found.strip("A") else ""


def _ends(consumer: Consumer, partitions: Sequence[TopicPartition], which: int) -> dict[Partition, int]:
    wanted = [TopicPartition(one.topic, one.partition, which) for one in partitions]
    answer = consumer.offsets_for_times(wanted, ANSWER_SECONDS)
    for one in answer:
        if one.error is not None:
            raise KafkaException(one.error)
    return {(one.topic, one.partition): one.offset for one in answer if one.offset >= 0}


def report_starts(starts: dict[Partition, Start]) -> None:
    """Logs and counts what was found where the partitions begin."""
    for (topic, partition), start in starts.items():
        if start.skipped:
            first, last, _ = start.skipped
            metrics.SKIPPED.add(last - first + 1)
            log.error("records_skipped", topic=topic, partition=partition, first=first, last=last)
    for topic in sorted({topic for (topic, _), start in starts.items() if start.made_again}):
        log.error("offsets_begin_again", topic=topic)
    for topic in sorted({topic for (topic, _), start in starts.items() if start.added}):
        count = max(start.note.partitions for (name, _), start in starts.items() if name == topic)
        metrics.PARTITIONS_ADDED.add(1)
        log.warning("partitions_added", topic=topic, partitions=count)
