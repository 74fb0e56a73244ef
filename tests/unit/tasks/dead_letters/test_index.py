"""The records that have a dead letter."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.batch.messages import Message
from tasks.dead_letters.index import Letters, place_of
from tasks.dead_letters.letter import LetterId

START, END = 10, 20
PLACES = st.tuples(st.integers(0, 30), st.integers(1, 5))


def message(offset: int, timestamp_ms: int) -> Message:
    """A message of this place and time."""
    return Message(0, offset, timestamp_ms, "users/u/devices/d/telemetry", "", 0, b"{}", "")


@given(st.lists(PLACES), PLACES)
def test_a_letter_is_that_of_the_record_with_its_offset_and_time(
    added: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    """Another record of the same offset, as in a topic that was made again, has none; nor one outside."""
    letters = Letters((START, END))
    for place in added:
        letters.add(*place)
    assert (message(*asked) in letters) == (asked in added and START <= asked[0] < END)


@given(st.integers(START, END - 1), st.integers(0, 2**62))
def test_a_letter_without_a_time_is_that_of_its_offset(offset: int, timestamp_ms: int) -> None:
    """As those of old versions are."""
    letters = Letters((START, END))
    letters.add(offset, 0)
    assert message(offset, timestamp_ms) in letters
    assert message(offset + 1, timestamp_ms) not in letters


def test_a_key_names_the_place_of_its_message() -> None:
    """Only keys of the telemetry topic do."""
    assert place_of(LetterId("iot-stream/3/17", 0)) == (3, 17)
    for key in (
        "mqtt/0a1b",
        "other/3/17",
        "iot-stream/3/x",
        "iot-stream/17",
        "",
        "iot-stream/-1/2",
        "iot-stream/²/1",
    ):
        assert place_of(LetterId(key, 0)) is None
