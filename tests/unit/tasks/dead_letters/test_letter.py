"""Dead letters read back: whole, whatever stands in the topic, and filtered as asked."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.batch.messages import Message, hinted
from tasks.dead_letters import envelope, sender
from tasks.dead_letters.letter import Filters, Letter, NoLetter, parse_letter
from tasks.dead_letters.sender import DeadLetter

TOPIC = "users/u/devices/d/telemetry"


def letter(topic: str = TOPIC, payload: bytes = b"{}", attempts: int = 0) -> Letter:
    """A letter as the workers send it, read back."""
    message = Message(3, 17, 1_700_000_000_123, topic, "00-1", attempts, payload)
    value = sender._envelope_of("iot-stream", DeadLetter(message, "MissingField", "`sequence_id` is missing"))
    return parse_letter(envelope.key("iot-stream", 3, 17), value, 5, 1, 2)


@given(st.binary(), st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 9))
def test_a_letter_comes_back_as_it_was_sent(payload: bytes, topic: str, attempts: int) -> None:
    """Payload, topic, coordinates and the time of its record; one attempt more than before."""
    found = letter(topic, payload, attempts)
    assert (found.payload, found.topic, found.attempts) == (payload, topic, attempts + 1)
    assert (found.partition, found.offset, found.timestamp_ms) == (3, 17, 1_700_000_000_123)
    assert found.can_be_replayed
    assert found.id == ("iot-stream/3/17", 1_700_000_000_123)


def test_a_letter_has_the_owner_that_its_topic_does_not_name() -> None:
    """So a replay of it produces a record of the same owner."""
    message = hinted(Message(3, 17, 0, "tele/cellar/SENSOR", "", 0, b"{}"), "", None, "ada")
    value = sender._envelope_of("iot-stream-states", DeadLetter(message, "MissingField", "it is missing"))
    assert parse_letter(b"iot-stream-states/3/17", value, 5).owner == "ada"
    assert letter().owner == ""


def test_a_letter_of_the_gateway_has_no_coordinates() -> None:
    """It cannot be replayed, for it was never in the topic."""
    value = envelope.envelope("users//devices/d/telemetry", b"x", "InvalidTopic", "no user")
    found = parse_letter(envelope.key_without_coordinates("t", b"x"), value, 5)
    assert not found.can_be_replayed
    assert (found.partition, found.offset, found.timestamp_ms, found.source) == (None, None, 5, None)


def test_a_letter_whose_payload_was_cut_cannot_be_replayed() -> None:
    """Half a payload is another payload."""
    value = json.loads(
        sender._envelope_of("iot-stream", DeadLetter(Message(0, 1, 2, TOPIC, "", 0, b"{}"), "E", "e"))
    )
    cut = json.dumps({**value, "payload_bytes": 3_000_000}).encode()
    assert not parse_letter(b"k", cut, 5).can_be_replayed


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_what_is_no_letter_is_refused_as_such(value: bytes) -> None:
    """Anybody may write into a topic, and nothing in it may stop a replay."""
    with pytest.raises(NoLetter):
        parse_letter(b"key", value, 0)


@pytest.mark.parametrize("field", ["original_topic", "traceparent"])
def test_a_letter_whose_text_no_header_can_hold_is_none(field: str) -> None:
    """Half of a surrogate pair, which JSON can write and UTF-8 cannot, would end the replay of all others."""
    value = json.loads(envelope.envelope(TOPIC, b"{}", "MissingField", "`sequence_id` is missing"))
    with pytest.raises(NoLetter):
        parse_letter(b"key", json.dumps({**value, field: "\ud800"}).encode(), 0)


def test_filters_mean_all_of_what_they_name() -> None:
    """Error type, times of the refusal (the end not included), user and device."""
    one = letter()
    second = timedelta(seconds=1)
    same = Filters("MissingField", one.refused_at, one.refused_at + second, "u", "d")
    assert same.match(one)
    assert Filters().match(one)
    for wrong in (
        Filters(error_type="InvalidJson"),
        Filters(since=one.refused_at + second),
        Filters(until=one.refused_at),
        Filters(user="other"),
        Filters(device="other"),
    ):
        assert not wrong.match(one)
    assert not Filters(user="u").match(letter(topic="nonsense"))


def test_an_hour_is_chosen_as_groups_have_it() -> None:
    """Any time of it names it, in any zone; what else is set narrows it, and the last hour has no end."""
    begin, hour = datetime(2026, 5, 1, 10, tzinfo=UTC), timedelta(hours=1)
    chosen = Filters(user="u").in_hour_of(
        datetime(2026, 5, 1, 16, 15, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    )
    assert chosen == Filters(since=begin, until=begin + hour, user="u")
    assert Filters(since=begin + hour / 2).in_hour_of(begin) == Filters(
        since=begin + hour / 2, until=begin + hour
    )
    assert Filters(since=begin - hour, until=begin + hour / 2).in_hour_of(begin) == Filters(
        since=begin, until=begin + hour / 2
    )
    with pytest.raises(OverflowError):
        Filters().in_hour_of(datetime.max.replace(tzinfo=UTC))


@given(
    st.none() | st.text(),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.text(),
    st.none() | st.text(),
)
def test_filters_survive_json(
    error_type: str | None,
    since: datetime | None,
    until: datetime | None,
    user: str | None,
    device: str | None,
) -> None:
    """A run that goes on has the filters that it began with."""
    filters = Filters(error_type, since, until, user, device)
    assert Filters.from_json(json.loads(json.dumps(filters.as_json()))) == filters
