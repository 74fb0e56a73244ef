"""Messages with several readings: their rows and places, and the one letter of what is wrong with them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.alerts.stepping import observation
from tasks.batch.kafka_record import message_of
from tasks.batch.messages import HintedMessage, Message, Part, Row, hinted, pack_part, unpack_part
from tasks.dead_letters import sender
from tasks.dead_letters.letter import parse_letter
from tasks.dead_letters.sender import DeadLetter
from tasks.domain import Domain, Double, Fingerprint, Form, Record, Time, TopicLevel
from tasks.domain.form import MOST_READINGS
from tasks.domain.places import index_of, offset_of, place
from tasks.rows.letters import letters
from tasks.rows.validate import is_stored, row_of, validate
from tasks.rows.write import Unstored
from tasks.rules.parsing import parse_rules
from tasks.rules.state import DeviceState
from tasks.telemetry import DOMAIN as TELEMETRY
from tests.payloads import written
from tests.stepping import step_all


class Reading(Record):
    """One value of several in a message."""

    device: TopicLevel
    time: Time | None = None
    t: Double | None = None
    reading_id: Fingerprint


MANY = Domain(
    Reading,
    name="many",
    topic="many/{device}",
    owner="ann",
    source="{device}",
    table="raw_many",
    primary_key=("time", "device", "reading_id"),
    form=Form(encodings=("json", "cbor", "gzip"), each="*"),
)


def message(payload: Any, offset: int = 7) -> Message:
    """A message of one device."""
    content = payload if isinstance(payload, bytes) else written(payload)
    return Message(2, offset, 1_795_168_800_000, "many/d", "", 0, content)


def test_each_message_has_its_outcome() -> None:
    """Rows, rows and a letter, a letter, or nothing, in the order of Kafka and of the array."""
    some = [
        message([{"t": 1}, {"t": 2}], 7),
        message([{"t": 3}, {"t": "x"}, {"t": 5}, 6], 8),
        message([{"t": "x"}, {"t": "y"}], 9),
        message(b"{", 10),
        message([{"t": None}], 11),
    ]
    readings, dead, partial, ignored, wrong, _ = validate(MANY, some)
    assert [(one.message.offset, one.number, one.reading.fields.t) for one in readings] == [
        (7, 0, 1),
        (7, 1, 2),
        (8, 0, 3),
        (8, 2, 5),
    ]
    assert ([letter.message.offset for letter in dead], wrong) == ([9, 10], 3)
    assert [(letter.message.offset, wrong) for letter, wrong in partial] == [(8, 2)]
    assert [one.offset for one in ignored] == [11]


def test_rows_are_in_the_order_of_their_readings() -> None:
    """One number has the offset and the index, and sorts as both do."""
    readings, *_ = validate(MANY, [message([{"t": n} for n in range(3)], offset) for offset in (8, 7)])
    rows = sorted(row_of(one) for one in readings)
    places = [(MANY.offset_of(row.offset), MANY.index_of(row.offset)) for row in rows]
    assert places == [(offset, index) for offset in (7, 8) for index in range(3)]


@given(
    offset=st.integers(0, 2**38 - 1), index=st.integers(0, MOST_READINGS - 1), other=st.integers(0, 2**38 - 1)
)
def test_a_place_is_an_offset_and_an_index(offset: int, index: int, other: int) -> None:
    """Both come back, and places are below those of the next record, and of the next epoch."""
    found = place(offset, index)
    assert (offset_of(found, formed=True), index_of(found, formed=True)) == (offset, index)
    assert (place(other, 0) > found) == (other > offset)
    assert found < 2**48
    assert offset_of(offset, formed=False) == offset


def test_the_one_letter_of_a_message_names_all_that_is_wrong() -> None:
    """The readings that validation refused, and those that the database refused."""
    sent = message([{"t": 1}, {"t": "x"}, {"t": 3}])
    unstored = [Unstored(Row(2, place(7, 2), b""), "no room (SQLSTATE 23514)")]
    (letter,) = letters(MANY, {(2, 7): sent}, [(2, 7)], unstored)
    assert letter.message is sent
    assert letter.error_type == "InvalidField"
    assert letter.error == (
        '2 of 3 readings are wrong, by index 1, 2: [1] `t` must be a finite number, got the string "x";'
        " [2] no room (SQLSTATE 23514)"
    )
    assert letter.elements == (1, 2)
    back = parse_letter(b"k", sender._envelope_of("iot-stream-many", letter), 5)
    assert back.elements == (1, 2)
    (letter,) = letters(MANY, {(2, 7): sent}, [], unstored)
    assert letter.error.startswith("2 of 3 readings are wrong")


def test_a_message_of_one_reading_has_the_letter_it_always_had() -> None:
    """For a domain without a form, with the row in its place."""
    sent = Message(2, 7, 0, "users/a/devices/b/telemetry", "", 0, b'{"sequence_id": 1}')
    refused = Unstored(Row(2, 7, b""), "other values", "Conflict", {"battery": 3})
    assert letters(TELEMETRY, {(2, 7): sent}, [], [refused]) == [
        DeadLetter(sent, "Conflict", "other values", {"battery": 3})
    ]


class _Record:
    """A record of Kafka."""

    def __init__(self, headers: list[tuple[str, bytes]]) -> None:
        self._headers = headers

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_795_168_800_000

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 9

    def value(self) -> bytes:
        return written([{"t": 1}, {"t": "x"}])


def received(*headers: tuple[str, bytes]) -> Message:
    """The message of a record with these headers, after its way over Redis."""
    found = message_of(_Record([("mqtt_topic", b"many/d"), *headers]))  # type: ignore[arg-type]
    return unpack_part(pack_part(Part("many", {2: 9}, [message(b"[]", 8), found]))).messages[1]


def test_a_replayed_message_makes_the_same_rows() -> None:
    """Without a time its readings are known by the place of the record that was refused first."""
    first = received()
    replayed = received(("origin", b"2/9"), ("replay", b"silent"))._replace(offset=77)
    assert isinstance(replayed, Message)
    again = hinted(replayed, "", (2, 9))
    lines = [[one.reading.copy_line for one in validate(MANY, [sent]).readings] for sent in (first, again)]
    assert lines[0] == lines[1]
    assert [one.reading.copy_line for one in validate(MANY, [first._replace(offset=77)]).readings] != lines[0]


def test_the_letter_of_a_replayed_message_keeps_its_origin_and_content_type() -> None:
    """However often it is refused."""
    sent = received(("origin", b"1/5"), ("content_type", b"application/cbor"))
    assert isinstance(sent, HintedMessage)
    assert (sent.content_type, sent.origin) == ("application/cbor", (1, 5))
    value = sender._envelope_of("iot-stream-many", DeadLetter(sent, "InvalidField", "wrong"))
    letter = parse_letter(b"k", value, 5)
    assert (letter.content_type, letter.origin) == ("application/cbor", (1, 5))
    plain = sender._envelope_of("iot-stream-many", DeadLetter(received(), "InvalidField", "wrong"))
    assert not {"content_type", "origin"} & json.loads(plain).keys()


@pytest.mark.parametrize("header", [b"", b"x", b"1", b"1/", b"-1/5", b"1/5/7", b"\xff", b"01/5"])
def test_an_origin_that_is_not_ours_is_none(header: bytes) -> None:
    """Anybody may write into a topic."""
    assert received(("origin", header)) == received()


def test_an_older_worker_reads_what_it_knows() -> None:
    """Hints travel beside the messages, which are as long as ever."""
    part = Part("many", {2: 9}, [message(b"[]"), received(("content_type", b"text/plain"))])
    again = unpack_part(pack_part(part))
    assert again == part
    assert [len(one) for one in again.messages] == [8, 8]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """The lines that the table has."""
    lines: set[bytes] = set()

    class Access:
        def __enter__(self) -> None:
            return None

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr("tasks.rows.validate.database.access", Access)
    monkeypatch.setattr("tasks.rows.validate.conflicts.is_stored", lambda _c, _d, line: line in lines)
    return lines


def test_a_condemned_message_is_stored_when_all_of_it_is(stored: set[bytes]) -> None:
    """Otherwise its letter has what is missing."""
    sent = message([{"t": 1}, {"t": 2}])
    first, second = (one.reading.copy_line for one in validate(MANY, [sent]).readings)
    assert not is_stored(MANY, sent)
    stored.add(first)
    assert not is_stored(MANY, sent)
    stored.add(second)
    assert is_stored(MANY, sent)
    assert not is_stored(MANY, message([{"t": 1}, {"t": "x"}]))


RULES = parse_rules([{"id": "hot", "key": "t", "operator": ">", "threshold": 2, "message": "m"}])


@given(values=st.lists(st.sampled_from([1, 3]), max_size=12), cut=st.integers(0, 12))
def test_rules_see_the_readings_of_a_message_in_order_and_once(values: list[int], cut: int) -> None:
    """As if each had come alone: also when the message comes again after some of them were judged."""
    sent = message([{"t": value} for value in values])
    observed = [observation(MANY, one, {}) for one in validate(MANY, [sent]).readings]
    state, changes = step_all(DeviceState("ann", "many/d"), RULES, observed)
    expected = [value for before, value in zip([1, *values], values, strict=False) if before != value]
    assert [change.value for change in changes] == expected
    triggered = [change.alert_id for change in changes if change.status == "TRIGGERED"]
    assert len(set(triggered)) == len(triggered)
    halfway, first = step_all(DeviceState("ann", "many/d"), RULES, observed[:cut])
    again, rest = step_all(halfway, RULES, observed)
    assert [*first, *rest] == [*changes]
    assert again.positions == state.positions
