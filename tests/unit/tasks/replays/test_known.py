"""Which records have a dead letter, in a bit each."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.replays.known import Offsets, place_of
from tasks.replays.letters import LetterId


@given(st.integers(0, 2**40), st.integers(0, 200), st.lists(st.integers(-20, 220)))
def test_the_bits_are_a_set_of_the_offsets_in_the_range(start: int, length: int, added: list[int]) -> None:
    """Offsets outside are passed over; each is new once."""
    reach = (start, start + length)
    offsets, model = Offsets(reach), set[int]()
    for relative in added:
        offset = start + relative
        new = 0 <= relative < length and offset not in model
        assert offsets.add(offset) == new
        if 0 <= relative < length:
            model.add(offset)
    assert {start + relative for relative in range(-20, 221) if start + relative in offsets} == model


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
