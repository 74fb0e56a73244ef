"""Where the bridge begins in a partition, by what is committed there and what Kafka still has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.partitions.assignment import MOST_SKIPPED, Note, Start, agreed, begin, unpack

NOW = Note("new", 4)
BEFORE = Note("new", 4, ((0, 9, 1),))
AT = 1_800_000_000


def test_nothing_is_committed() -> None:
    """All that is there is read, and what is gone was nobody's."""
    assert begin(-1001, Note(), 7, 9, NOW, AT) == (7, NOW, None, False, 0)


def test_an_offset_that_is_there() -> None:
    """It goes on from there, and still knows what was skipped before."""
    start = begin(50, BEFORE, 7, 50, NOW, AT)
    assert start == Start(50, BEFORE)


def test_an_offset_that_retention_has_passed() -> None:
    """The range is reported, and noted with the others."""
    start = begin(50, BEFORE, 60, 70, NOW, AT)
    assert (start.offset, start.skipped) == (60, (50, 59, AT))
    assert start.note.skipped == ((0, 9, 1), (50, 59, AT))


@pytest.mark.parametrize("committed", [50, 90])
def test_an_offset_of_another_topic(committed: int) -> None:
    """The topic with this name is another one: it is read from its beginning."""
    start = begin(committed, Note("old", 4, ((0, 9, 1),), 3), 7, 70, NOW, AT)
    assert (start.offset, start.note, start.made_again, start.skipped) == (7, NOW, True, None)


@pytest.mark.parametrize("topic_id", ["", "new"])
def test_an_offset_that_kafka_has_lost(topic_id: str) -> None:
    """The partition is shorter than it was: it is read from its beginning, and its offsets are other ones."""
    start = begin(90, Note(topic_id, 4, ((0, 9, 1),), 3), 7, 70, NOW, AT)
    assert (start.offset, start.made_again, start.skipped) == (7, True, None)
    assert start.note.incarnation == "new~4"
    assert begin(70, start.note, 7, 70, NOW, AT).note.incarnation == "new~4"


def test_the_partitions_of_a_topic_agree() -> None:
    """Whatever a partition of a topic has met counts for all of this id, also for those of other bridges."""
    own = {("t", 0): Start(5, Note("new", 3, (), 1)), ("other", 0): Start(5, Note("x", 1))}
    others = {("t", 1): Note("new", 3, (), 2), ("t", 2): Note("old", 3, (), 7)}
    found = agreed(own, others)
    assert {place: start.note.begun_again for place, start in found.items()} == {("t", 0): 2, ("other", 0): 0}


def test_an_offset_that_an_older_bridge_committed() -> None:
    """It says nothing of the topic, and counts."""
    assert begin(50, Note(), 7, 70, NOW, AT) == (50, NOW, None, False, 0)


def test_partitions_that_were_added() -> None:
    """As many as there are more than the last time."""
    assert begin(50, BEFORE._replace(partitions=1), 7, 70, NOW, AT).added == 3


@pytest.mark.parametrize("metadata", [None, "", "[]", "1", '{"skipped": 5}', "{", '{"partitions": "x"}'])
def test_metadata_of_others_says_nothing(metadata: str | None) -> None:
    """A commit by hand left something else, or nothing."""
    assert unpack(metadata) == Note()


@given(st.lists(st.tuples(*[st.integers(0, 2**53)] * 3), max_size=2 * MOST_SKIPPED))
def test_a_note_comes_back_and_fits(skipped: list[tuple[int, int, int]]) -> None:
    """Kafka takes 4096 bytes."""
    note = Note("a" * 22, 4)
    for gap in skipped:
        note = begin(0, note, gap[0] + 1, gap[0] + 1, note, gap[2]).note
    assert unpack(note.pack()) == note
    assert len(note.pack()) <= 4096
