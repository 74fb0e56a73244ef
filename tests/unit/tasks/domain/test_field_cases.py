"""Payloads that were seen in the field: what the telemetry says of each, and what a declaration makes of it.

The telemetry is strict, and names what is wrong; a form takes what is harmless.
"""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.admin.domains.domain_try import extra_of
from tasks.domain import Clock, Domain, Double, Fingerprint, Form, Integer, Record, Time, TopicLevel, When, at
from tasks.domain.payload import Limits, Refused
from tasks.telemetry import DOMAIN

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
OWN = "users/ada/devices/d/telemetry"


class Reading(Record):
    """The fields of the payloads below."""

    device: TopicLevel
    time: Time | None = None
    sequence_id: Integer | None = None
    temperature: Double | None = at("temperature", "values.temperature")
    battery: Double | None = None
    signal: Double | None = None
    reading_id: Fingerprint


def formed(form: Form) -> Domain[Reading]:
    """A domain of such readings."""
    return Domain(
        Reading,
        name="field",
        topic="field/{device}",
        owner="ada",
        source="{device}",
        table="raw_field",
        primary_key=("time", "device", "reading_id"),
        form=form,
    )


def rows(form: Form, payload: bytes, topic: str = "field/d") -> list[dict[str, Any]]:
    """The readings by their columns without those that are null, and `extra`. Raises the refusal."""
    domain = formed(form)
    found = domain.read(topic, payload, NOW_MS, Limits())
    if found.refused is not None:
        raise found.refused
    shown = []
    for _, reading in found.readings:
        whole = vars(domain.whole(topic, reading))
        extra = json.loads(extra_of(reading))
        kept = {
            name: whole[name]
            for name in ("time", "sequence_id", "temperature", "battery", "signal")
            if whole[name] is not None
        }
        shown.append({**kept, **({"extra": extra} if extra else {})})
    return shown


@pytest.mark.parametrize(
    ("payload", "error_type", "reason"),
    [
        (b'{"sequence_id":1,"time":1751373296}', "InvalidTime", "ISO 8601"),
        (b'{"sequence_id":1,"time":1751373296000}', "InvalidTime", "ISO 8601"),
        (b'{"sequence_id":1,"time":"1751373296"}', "InvalidTime", "ISO 8601"),
        (
            b'{"time":"2026-11-20 20:26:42","sequence_id":3,"temperature":17.1,"battery":"OK"}',
            "InvalidTime",
            "must end in Z or a UTC offset.*`battery`",
        ),
        (b'{"sequence_id":5,"battery":"100.00"}', "InvalidField", 'got the string "100.00"'),
        (b'{"sequence_id":"5922","temperature":19.43}', "InvalidField", 'got the string "5922"'),
        (b'{"sequence_id":6,"A":{"T":17.1},"B":{"T":nan,"H":nan}}', "InvalidJson", "nan is not a number"),
        (b'{"sequence_id":6,"signal":NaN,"temperature":20.1}', "NotFinite", "`signal` must be a finite"),
        (b'[{"sequence_id":1,"temperature":20.4},{"sequence_id":2}]', "NotAnObject", "got an array"),
        (b'{"Device A":[{"ts":1764834102955,"values":{}}]}', "MissingField", "`sequence_id` is missing"),
        (gzip.compress(b'{"sequence_id":1}', mtime=0), "InvalidJson", "looks like gzip"),
        (b'{"sequence_id":1,"temperature":1}\0', "InvalidJson", "a NUL byte follows"),
        (b"", "InvalidJson", "the payload is empty"),
        (b'{"battery":100,"last_seen":1795820000123,"temperature":21.3}', "MissingField", "`sequence_id`"),
        (b'{"Time":"2026-11-27T10:00:00","ENERGY":{"Power":7}}', "MissingField", "`sequence_id`"),
        (b'{"value":12.3}', "MissingField", "`sequence_id`"),
        (b"21.5", "NotAnObject", "got the number 21.5"),
        (b'{"_type":"location","tst":1795820000,"lat":47.1}', "MissingField", "`sequence_id`"),
        (b'{"ts":1795820000123,"values":{"temperature":42.2}}', "MissingField", "`sequence_id`"),
    ],
)
def test_the_telemetry_names_what_is_wrong(payload: bytes, error_type: str, reason: str) -> None:
    """In words that a device maker understands, whatever was sent."""
    with pytest.raises(Refused, match=reason) as caught:
        DOMAIN.validate(OWN, payload, NOW_MS, Limits())
    assert caught.value.error_type == error_type


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sequence_id":5922.0}',
        b'{"sequence_id":1,"payload_fields":{"Hum":"37.8"}}',
        b'{"sequence_id":1,"ts":1795820053506,"values":{"temperature":21.5}}',
        b'{"sequence_id":1,"water_leak":true,"state":"offline"}',
        b'{"sequence_id":1,"meter":{"1.8.0":123.4}}',
    ],
)
def test_the_telemetry_keeps_what_it_does_not_know(payload: bytes) -> None:
    """As it came, in the extra column; the time is that of arrival, and an integral float is an integer."""
    reading = DOMAIN.validate(OWN, payload, NOW_MS, Limits())
    sent = json.loads(payload)
    assert reading.time == NOW
    assert reading.fields.sequence_id == sent.pop("sequence_id")
    assert json.loads(reading.copy_line.rsplit(b"\t", 1)[1]) == sent


EPOCH = Form(times=(When("time", "iso", "epoch"),))


@pytest.mark.parametrize("time", ["1795165100", "1795165100000", '"1795165100"', '"2026-11-20T08:58:20Z"'])
def test_a_declared_epoch_is_a_time_in_any_unit(time: str) -> None:
    """A number, or a string with one."""
    (row,) = rows(EPOCH, f'{{"battery":1,"time":{time}}}'.encode())
    assert row["time"] == datetime(2026, 11, 20, 8, 58, 20, tzinfo=UTC)


def test_an_implausible_epoch_is_refused_or_kept_beside_the_arrival() -> None:
    """As the clock declares."""
    payload = b'{"time":10,"battery":1}'
    with pytest.raises(Refused, match="time"):
        rows(Form(times=(When("time", "s"),)), payload)
    (row,) = rows(Form(times=(When("time", "s"),), clock=Clock(outside="arrival")), payload)
    assert row == {"time": NOW, "battery": 1.0, "extra": {"device_time": 10}}


def test_another_name_of_the_time_can_be_declared() -> None:
    """`ts` and `timestamp`, the first that is there."""
    form = Form(times=(When("ts", "ms"), When("timestamp", "iso")))
    assert rows(form, b'{"ts":1795165100506,"values":{"temperature":21.5}}') == [
        {"time": datetime(2026, 11, 20, 8, 58, 20, 506000, tzinfo=UTC), "temperature": 21.5}
    ]
    (row,) = rows(form, b'{"timestamp":"2026-11-20T08:00:00Z","temperature":1}')
    assert row["time"] == datetime(2026, 11, 20, 8, tzinfo=UTC)


def test_a_time_without_an_offset_has_the_declared_zone() -> None:
    """With a blank between date and time, and in a reading whose battery is a word."""
    form = Form(times=(When("time", "iso", zone="Europe/Berlin"),), absent=frozenset({"ok"}))
    (row,) = rows(form, b'{"time":"2026-11-20 09:26:42","sequence_id":3,"temperature":17.1,"battery":"OK"}')
    assert row == {
        "time": datetime(2026, 11, 20, 8, 26, 42, tzinfo=UTC),
        "sequence_id": 3,
        "temperature": 17.1,
    }


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"sequence_id":5,"battery":"100.00"}', {"sequence_id": 5, "battery": 100.0}),
        (b'{"sequence_id":"5922","temperature":19.43}', {"sequence_id": 5922, "temperature": 19.43}),
        (
            b'{"battery":1,"payload_fields":{"Hum":"37.8"}}',
            {"battery": 1.0, "extra": {"payload_fields": {"Hum": "37.8"}}},
        ),
        (
            b'{"battery":1,"A":{"T":17.1},"B":{"T":nan,"H":nan}}',
            {"battery": 1.0, "extra": {"A": {"T": 17.1}, "B": {"T": None, "H": None}}},
        ),
        (b'{"sequence_id":6,"signal":NaN,"temperature":20.1}', {"sequence_id": 6, "temperature": 20.1}),
        (b'{"sequence_id":1,"temperature":1}\0', {"sequence_id": 1, "temperature": 1.0}),
    ],
)
def test_a_form_takes_what_is_harmless(payload: bytes, expected: dict[str, Any]) -> None:
    """Numbers in strings, numbers that are none, and the end of a C string."""
    assert rows(Form(numbers="text"), payload) == [{"time": NOW, **expected}]


def test_arrays_are_one_reading_for_each_element() -> None:
    """At the top, and below the name of a device."""
    assert rows(
        Form(each="*"), b'[{"sequence_id":1,"temperature":20.4},{"sequence_id":2,"temperature":22.4}]'
    ) == [
        {"time": NOW, "sequence_id": 1, "temperature": 20.4},
        {"time": NOW, "sequence_id": 2, "temperature": 22.4},
    ]
    named = Form(each="{name}.*", times=(When("ts", "ms"),))
    assert rows(named, b'{"Device A":[{"ts":1795165100955,"values":{"temperature":45.1}}]}') == [
        {"time": datetime(2026, 11, 20, 8, 58, 20, 955000, tzinfo=UTC), "temperature": 45.1}
    ]


def test_gzip_is_taken_where_it_is_declared() -> None:
    """And known by its first bytes beside plain JSON."""
    form = Form(encodings=("json", "gzip"))
    plain = b'{"sequence_id":1,"temperature":1}'
    assert rows(form, gzip.compress(plain)) == rows(form, plain)


def test_an_empty_payload_is_ignored_by_a_form() -> None:
    """It clears what is retained, and is not a reading."""
    assert rows(Form(), b"") == []


def test_a_number_that_comes_twice_without_a_time_is_two_readings() -> None:
    """Each has the time of its arrival, or its place in Kafka: nothing says that they are one."""
    payload = b'{"sequence_id":7,"temperature":1}'
    first, again = (DOMAIN.validate(OWN, payload, NOW_MS + late, Limits()) for late in (0, 5000))
    assert first.time != again.time
    one, other = (
        formed(Form()).read("field/d", payload, NOW_MS, Limits(), place=(0, offset)).readings[0][1]
        for offset in (1, 2)
    )
    assert one.fields.reading_id != other.fields.reading_id


@pytest.mark.parametrize(
    "topic", ["zigbee2mqtt/kitchen", "field", "field/", "field/a/b", "/field/d", "field/d/", "field/\x01"]
)
def test_another_topic_is_refused_by_its_form(topic: str) -> None:
    """With the form that it must have."""
    with pytest.raises(Refused) as caught:
        rows(Form(), b'{"battery":1}', topic)
    assert caught.value.error_type == "InvalidTopic"
