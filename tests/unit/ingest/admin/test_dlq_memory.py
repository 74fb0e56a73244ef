"""The newest dead letters of a topic, remembered: every one that is asked for, and no more than has room."""

import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.letters.dlq_memory import Memory, matching
from tasks.dead_letters.letter import Filters, Letter, LetterId
from tests.unit.ingest.admin.letters import NOW, letter

PARTITIONS = 3


class Topic:
    """A topic as Kafka has it, and a memory of it."""

    def __init__(self, most: int) -> None:
        self.memory = Memory(most, 10**9)
        self.name = "a"
        self.partitions: list[list[Letter | None]] = [[] for _ in range(PARTITIONS)]
        self.lows = [0] * PARTITIONS

    def write(self, partition: int, one: Letter | None) -> None:
        """One more record."""
        records = self.partitions[partition]
        if one is not None:
            one = one._replace(letter_partition=partition, letter_offset=len(records))
        records.append(one)

    def drop(self, partition: int, count: int) -> None:
        """Retention takes the first records that are left."""
        self.lows[partition] = min(self.lows[partition] + count, len(self.partitions[partition]))

    def recreate(self) -> None:
        """The topic is deleted and made again."""
        self.name += "a"
        self.partitions, self.lows = [[] for _ in range(PARTITIONS)], [0] * PARTITIONS

    def look(self, most: int | None = None) -> None:
        """The memory takes the new letters, or the first of them when the read breaks off."""
        ranges = {n: (self.lows[n], len(records)) for n, records in enumerate(self.partitions)}
        news = self.memory.news(self.name, ranges)
        places = [(n, offset) for n, (start, end) in news.items() for offset in range(start, end)]
        for number, offset in places[:most]:
            self.memory.take(number, offset, self.partitions[number][offset])
        if most is None or most >= len(places):
            self.memory.reached(news)

    def letters(self) -> list[Letter]:
        """The letters that a read of the whole topic finds."""
        return [
            one
            for number, records in enumerate(self.partitions)
            for one in records[self.lows[number] :]
            if one is not None
        ]


def ids(letters: list[Letter]) -> Counter[LetterId]:
    """The letters, and how often each is there."""
    return Counter(one.id for one in letters)


PARTITION = st.integers(0, PARTITIONS - 1)
STEPS = st.one_of(
    st.tuples(st.just("write"), PARTITION, st.integers(0, 40), st.integers(0, 30)),
    st.tuples(st.just("write"), PARTITION, st.integers(0, 40), st.integers(0, 30)),
    st.tuples(st.just("other"), PARTITION, st.just(0), st.just(0)),
    st.tuples(st.just("drop"), PARTITION, st.integers(1, 4), st.just(0)),
    st.tuples(st.sampled_from(["look", "part", "recreate"]), st.integers(0, 5), st.just(0), st.just(0)),
)


@given(st.lists(STEPS, max_size=60), st.integers(1, 12), st.integers(0, 40), st.booleans())
def test_a_look_finds_what_a_read_of_the_topic_finds(
    steps: list[tuple[str, int, int, int]], most: int, since: int, ever: bool
) -> None:
    """Whatever was written, dropped by retention, made again or read in part: where the memory says that it
    covers the time, it has each letter of it, each once; and never more letters than it may have.
    """
    topic = Topic(most)
    for what, number, second, name in steps:
        if what == "write":
            topic.write(number, letter(second, id=LetterId(f"telemetry/0/{name}", 0)))
        elif what == "other":
            topic.write(number, None)
        elif what == "drop":
            topic.drop(number, second)
        elif what == "recreate":
            topic.recreate()
        else:
            topic.look(number if what == "part" else None)
        assert topic.memory.count == len(topic.memory.letters()) <= most
    topic.look()
    at = None if ever else NOW + timedelta(seconds=since)
    filters = Filters(since=at)
    found = [one.letter for one in matching(topic.memory.letters(), filters)]
    expected = [one for one in topic.letters() if filters.match(one)]
    if topic.memory.covers(at):
        assert ids(found) == Counter(ids(expected).keys())


def test_all_is_covered_until_something_had_no_room() -> None:
    """A topic that has room is remembered whole, however old its letters are."""
    topic = Topic(3)
    for second in range(3):
        topic.write(second % PARTITIONS, letter(second))
    topic.look()
    assert topic.memory.covers(None)
    topic.write(0, letter(3))
    topic.look()
    covered = [second for second in range(4) if topic.memory.covers(NOW + timedelta(seconds=second))]
    assert (topic.memory.covers(None), covered) == (False, [1, 2, 3])


def test_what_is_left_out_is_not_covered() -> None:
    """The time itself is: letters from before it are what was left out."""
    memory = Memory(3, 10**9)
    memory.leave_out(NOW)
    assert memory.covers(NOW)
    assert not memory.covers(NOW - timedelta(microseconds=1))
    assert not memory.covers(None)


def test_a_topic_that_was_cut_short_is_read_again() -> None:
    """Also where topics have no ids: an end before the place where the last look ended is another topic."""
    topic = Topic(10)
    for second in range(3):
        topic.write(0, letter(second))
    topic.look()
    topic.partitions[0] = [letter(9)]
    topic.look()
    assert [one.letter.refused_at for one in topic.memory.letters()] == [NOW + timedelta(seconds=9)]
    topic.partitions, topic.lows = topic.partitions[:1], [0]
    topic.look()
    assert topic.memory.count == 1


def test_the_bytes_are_bounded_whatever_the_letters_are() -> None:
    """Small, with large payloads or long texts: what is counted is about what the process holds."""
    kinds: list[Callable[[int], Letter]] = [
        letter,
        lambda n: letter(n, payload=b"[" * 262_144),
        lambda n: letter(n, error="ü" * 3000 + str(n), traceparent="t" * 500 + str(n)),
        lambda n: letter(n, elements=tuple(range(n, n + 1000))),
    ]
    for kind in kinds:
        tracemalloc.start()
        memory = Memory(10**6, 2_000_000)
        for number in range(3000):
            memory.take(0, number, kind(number))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert memory.size <= 2_000_000
        assert held < 3_000_000
        assert memory.count > 100


def test_filters_select_by_the_sender_as_they_do_of_a_letter() -> None:
    """User and device are those of the topic; one that names neither belongs to nobody."""
    memory = Memory(10, 10**9)
    topics = ("users/ada/devices/d/telemetry", "users/bob/devices/d/telemetry", "nonsense")
    letters = [letter(number, topic=topic) for number, topic in enumerate(topics)]
    for number, one in enumerate(letters):
        memory.take(0, number, one)
    for filters in (Filters(user="ada"), Filters(device="d"), Filters(error_type="NoSuch"), Filters()):
        found = [one.letter.id for one in matching(memory.letters(), filters)]
        assert found == [one.id for one in letters if filters.match(one)], filters


def test_a_time_that_no_time_zone_has_is_no_error() -> None:
    """A stranger's record may name the first hour of the first year, east of Greenwich."""
    memory = Memory(10, 10**9)
    at = datetime.fromisoformat("0001-01-01T00:30:00+14:00")
    memory.take(0, 0, letter(0, refused_at=at))
    (one,) = memory.letters()
    assert one.group.hour == at.replace(minute=0)
    assert [found.letter.refused_at for found in matching(memory.letters(), Filters())] == [at]
    assert not list(matching(memory.letters(), Filters(since=datetime(2, 1, 1, tzinfo=UTC))))
