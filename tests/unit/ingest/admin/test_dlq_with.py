"""Letters as a changed declaration reads them: the same rows by the installed domain, or nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from ingest.admin.errors import OperatorError
from ingest.admin.letters.dlq_with import Change
from tasks import telemetry
from tasks.dead_letters import envelope
from tasks.dead_letters.letter import ALERT_REFUSED, Letter, parse_letter
from tasks.domain import Bigint, Domain, Record, Time, TopicLevel, routing
from tasks.domain.domain import AnyDomain
from tasks.domain.form import Form

TOPIC = "users/ada/devices/fridge/telemetry"
ARRIVAL_MS = 1_780_000_000_123
ARRIVAL = "2026-05-28T20:26:40.123000Z"
INSTALLED = telemetry.DOMAIN


class Renamed(telemetry.Telemetry):
    """The telemetry of a device that counts in `seq`."""

    sequence_id: Bigint = Field(alias="seq")


class Narrow(Record):
    """A domain with other columns."""

    user_id: TopicLevel
    device_id: TopicLevel
    time: Time | None = None
    sequence_id: Bigint


def domain(record: type[Record], form: Form | None = None, namespace: str = "") -> AnyDomain:
    """A domain like the telemetry, of another record."""
    return Domain(
        record,
        name="telemetry",
        namespace=namespace,
        topic="users/{user_id}/devices/{device_id}/telemetry",
        owner="{user_id}",
        source="{device_id}",
        table="raw_telemetry",
        primary_key=("time", "user_id", "device_id", "sequence_id"),
        form=form,
    )


def letter(payload: bytes, error_type: str = "MissingField") -> Letter:
    """The letter of a message that was refused."""
    value = envelope.envelope(
        TOPIC,
        payload,
        error_type,
        "e",
        kafka_topic="iot-stream",
        kafka_partition=3,
        kafka_offset=17,
        kafka_timestamp_ms=ARRIVAL_MS,
    )
    return parse_letter(b"iot-stream/3/17", value, ARRIVAL_MS)


def test_a_field_of_another_name_gets_its_own_and_the_arrival_becomes_the_time() -> None:
    """The payload is in the installed form, and what the letter is known by stays."""
    original = letter(b'{"seq": 7, "temperature": 21.5, "door": {"open": true, "exact": 1.10}}')
    found = Change(INSTALLED, domain(Renamed)).of(original)
    assert found.letter is not None
    assert json.loads(found.letter.payload) == {
        "time": ARRIVAL,
        "sequence_id": 7,
        "temperature": 21.5,
        "door": {"open": True, "exact": 1.1},
    }
    assert found.letter._replace(payload=original.payload) == original
    (row,) = found.rows
    assert (row["sequence_id"], row["user_id"], row["time"]) == (7, "ada", ARRIVAL)


def test_what_the_installed_domain_reads_by_now_is_replayed_as_it_is() -> None:
    """A file that is the installed domain changes no payload."""
    original = letter(b'{"sequence_id":   7}')
    assert Change(INSTALLED, INSTALLED).letter(original) == original


@pytest.mark.parametrize(
    ("payload", "error_type", "refused"),
    [
        (b'{"temperature": 1}', "MissingField", "MissingField"),
        (b"not json", "InvalidJson", "InvalidJson"),
        # Both names: the installed domain's own is among the other members, and would win.
        (b'{"seq": 7, "sequence_id": 8}', "Conflict", "NotInstalled"),
        (b"{}", ALERT_REFUSED, "NoMessage"),
    ],
)
def test_what_cannot_be_the_same_row_is_left_out_with_the_reason(
    payload: bytes, error_type: str, refused: str
) -> None:
    """Nothing is produced that would be another row, or be refused again."""
    found = Change(INSTALLED, domain(Renamed)).of(letter(payload, error_type))
    assert found.letter is None
    assert [one["error_type"] for one in found.refused] == [refused]


def test_several_readings_need_the_file_installed() -> None:
    """One record of the installed domain holds one reading; with the file installed the payload stays."""
    many = domain(telemetry.Telemetry, Form(each="readings.*"), "arrays")
    original = letter(b'{"readings": [{"sequence_id": 1, "battery": 9}, {"sequence_id": 2, "battery": 8}]}')
    found = Change(INSTALLED, many).of(original)
    assert found.letter is None
    assert [row["sequence_id"] for row in found.rows] == [1, 2]
    assert found.refused[0]["error_type"] == "NotInstalled"
    assert Change(many, many).letter(original) == original
    half = b'{"readings": [{"sequence_id": 1, "battery": 9}, {"sequence_id": "x", "battery": 8}]}'
    partly = Change(many, many).of(letter(half))
    assert partly.letter is None
    assert [one["index"] for one in partly.refused] == [1]


def test_a_form_is_left_behind() -> None:
    """A number in a string becomes the number that the installed domain wants."""
    lenient = domain(telemetry.Telemetry, Form(numbers="text"), "lenient")
    found = Change(INSTALLED, lenient).of(letter(b'{"sequence_id": "12", "battery": "80"}'))
    assert found.letter is not None
    assert json.loads(found.letter.payload) == {"time": ARRIVAL, "sequence_id": 12, "battery": 80}


def test_a_fault_of_the_file_leaves_out_that_letter_alone() -> None:
    """Its code runs for each letter, and the others go on."""

    class Faulty(telemetry.Telemetry):
        @field_validator("temperature", mode="before")
        @classmethod
        def unwrapped(cls, value: Any) -> Any:
            return value["value"]

    change = Change(INSTALLED, domain(Faulty))
    (refused,) = change.of(letter(b'{"sequence_id": 7, "temperature": 5}')).refused
    assert (refused["error_type"], "TypeError" in refused["reason"]) == ("InternalError", True)
    assert change.letter(letter(b'{"sequence_id": 7, "temperature": {"value": 5}}')) is not None


def test_other_columns_are_refused_by_name() -> None:
    """A file about another table is an error of the operator, before any letter is read."""
    with pytest.raises(OperatorError, match="battery, temperature"):
        Change(INSTALLED, domain(Narrow))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["seq", "sequence_id", "time", "battery", "user_id", "x", "\\"]), values)
)
def test_whatever_is_produced_is_the_row_of_the_file(payload: dict[str, Any]) -> None:
    """Whatever the payload, what is produced becomes the same row by the installed domain, or nothing is."""
    original = letter(json.dumps(payload).encode())
    given_domain = domain(Renamed)
    found = Change(INSTALLED, given_domain).of(original)
    if found.letter is None:
        assert found.refused[0]["error_type"] != "InternalError"
        return
    limits = routing.limits()
    wanted = given_domain.validate(TOPIC, original.payload, ARRIVAL_MS, limits)
    stored = INSTALLED.validate(TOPIC, found.letter.payload, ARRIVAL_MS, limits)
    assert stored.time == wanted.time
    assert stored.fields.model_dump() == {**wanted.fields.model_dump(), "time": stored.time}
