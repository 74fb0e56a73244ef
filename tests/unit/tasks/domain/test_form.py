"""A form: where values are, how they are read, and which readings a message holds."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.domains.domain_try import attempt, row_of
from tasks.domain import (
    Bigint,
    Boolean,
    Clock,
    Domain,
    Double,
    Fingerprint,
    Form,
    Json,
    Numeric,
    Record,
    Text,
    Time,
    TopicLevel,
    When,
    at,
)
from tasks.domain.form import MOST_READINGS
from tasks.domain.payload import Limits, Refused
from tests.payloads import VALUES, written

LIMITS = Limits()
ARRIVAL = datetime(2026, 11, 20, 10, tzinfo=UTC)
ARRIVAL_MS = int(ARRIVAL.timestamp() * 1000)


class Reading(Record):
    """A bit of everything."""

    device: TopicLevel
    time: Time | None = None
    temperature: Double | None = at("sensor.temperature", "t")
    count: Bigint | None = at("count", keep_others=True)
    price: Numeric | None = None
    door: Boolean | None = at("door", true=["open"], false=["closed"])
    tags: list[Text] | None = None
    state: Json | None = None
    gateway: Text | None = at("/gateway")
    serial: Text | None = None
    reading_id: Fingerprint


class Counted(Record):
    """A reading with a number of its own, and a required value."""

    device: TopicLevel
    time: Time | None = None
    sequence_id: Bigint = at("n", default=0)
    value: Double


def domain(form: Form, record: type[Record] = Reading, **changes: Any) -> Domain[Any]:
    """A domain of this form."""
    key = ("time", "device", "sequence_id" if record is Counted else "reading_id")
    arguments: dict[str, Any] = {"topic": "t/{device}/{kind}", "source": "{device}", "primary_key": key}
    return Domain(record, name="d", owner="o", table="raw_d", form=form, **(arguments | changes))


def rows(
    form: Form, payload: Any, record: type[Record] = Reading, topic: str = "t/x/y"
) -> list[dict[str, Any]]:
    """The rows of a message, all of which must be taken."""
    content = payload if isinstance(payload, bytes) else written(payload)
    tried = attempt(domain(form, record), topic, content, ARRIVAL_MS, LIMITS)
    assert tried.refused == []
    return tried.rows


def row(form: Form, payload: Any, record: type[Record] = Reading) -> dict[str, Any]:
    """The one row of a message."""
    (found,) = rows(form, payload, record)
    return found


def refused(form: Form, payload: Any, record: type[Record] = Reading) -> list[dict[str, Any]]:
    """The refused readings of a message."""
    return attempt(domain(form, record), "t/x/y", written(payload), ARRIVAL_MS, LIMITS).refused


def test_values_are_taken_from_their_places_and_the_rest_is_kept() -> None:
    """By path, the first that has a value; what is left of an object stays where it was."""
    found = row(Form(), {"sensor": {"temperature": 1.5, "unit": "C"}, "tags": ["a"], "more": [1]})
    assert (found["temperature"], found["tags"], found["device"]) == (1.5, ["a"], "x")
    assert found["extra_data"] == {"sensor": {"unit": "C"}, "more": [1], "kind": "y"}
    assert row(Form(), {"t": 2, "sensor": {"temperature": None}})["temperature"] == 2


def test_without_a_declaration_nothing_is_converted() -> None:
    """Strings are not numbers, as for any domain."""
    (found,) = refused(Form(), {"t": "1.5"})
    assert found["reason"] == '`sensor.temperature` must be a finite number, got the string "1.5"'


def test_numbers_in_text() -> None:
    """Where the column is a number; elsewhere text stays text."""
    found = row(
        Form(numbers="unit", decimal_comma=True), {"t": "21,5 °C", "price": "1.10 €"[:4], "serial": "1.10"}
    )
    assert (found["temperature"], found["price"], found["serial"]) == (21.5, "1.10", "1.10")
    (wrong,) = refused(Form(numbers="text"), {"t": "21.5 °C"})
    assert wrong["error_type"] == "InvalidField"


def test_integers_and_booleans() -> None:
    """An integral float is an integer, and declared words are booleans."""
    found = row(Form(numbers="text"), {"count": 5.0, "door": "open"})
    assert (found["count"], found["door"]) == (5, True)
    assert row(Form(numbers="text"), {"count": "5922.0", "door": False})["count"] == 5922
    assert (
        refused(Form(), {"door": "ajar"})[0]["reason"]
        == '`door` must be true or false, got the string "ajar"'
    )


def test_a_value_of_another_kind_is_kept_where_that_is_declared() -> None:
    """Three phases where one was expected."""
    found = row(Form(), {"t": 1, "count": [1, 2, 3]})
    assert found["count"] is None
    assert found["extra_data"]["count"] == [1, 2, 3]


def test_no_value_is_null_and_no_values_are_no_reading() -> None:
    """In each spelling; a message of nothing else is ignored, and so is an empty one."""
    found = row(Form(), b'{"t": nan, "serial": "unavailable", "count": null, "signal": 3}')
    assert [found[name] for name in ("temperature", "serial", "count")] == [None, None, None]
    for payload in (b'{"t": NaN, "time": "2026-11-20T10:00:00Z"}', b'{"other": null}', b"{}", b"", b"null"):
        assert rows(Form(), payload) == []
        assert attempt(domain(Form()), "t/x/y", payload, ARRIVAL_MS, LIMITS).ignored


def test_a_required_value_is_missing() -> None:
    """A reading that should be one is refused; a default is a value for what is left out."""
    assert refused(Form(), {"n": 1, "other": 2}, Counted)[0]["error_type"] == "MissingField"
    assert row(Form(), {"value": 1}, Counted)["sequence_id"] == 0


def test_times_in_order_and_arrival() -> None:
    """The first that is present; without one the arrival counts."""
    form = Form(times=(When("at", "s"), When("/sent", "iso")))
    assert row(form, {"at": 1795165200, "t": 1})["time"] == "2026-11-20T09:00:00Z"
    assert row(form, {"at": None, "sent": "2026-11-20T09:30:00Z", "t": 1})["time"] == "2026-11-20T09:30:00Z"
    assert row(form, {"t": 1})["time"] == "2026-11-20T10:00:00Z"
    assert row(Form(), {"time": "2026-11-20T09:30Z", "t": 1})["time"] == "2026-11-20T09:30:00Z"


def test_an_implausible_clock() -> None:
    """It is refused; or the arrival counts, and the device's own time is kept beside it."""
    boot = {"at": 1.61, "t": 1}
    (found,) = refused(Form(times=(When("at", "s"),)), boot)
    assert found["error_type"] == "InvalidTime"
    assert "`at` is 1970-01-01T00:00:01.610000Z, too long before" in found["reason"]
    kept = row(Form(times=(When("at", "s"),), clock=Clock(outside="arrival")), boot)
    assert kept["time"] == "2026-11-20T10:00:00Z"
    assert kept["extra_data"]["device_time"] == 1.61
    narrow = Clock(back=timedelta(minutes=1), outside="arrival")
    assert (
        row(Form(times=(When("at", "s"),), clock=narrow), {"at": 1795165200, "t": 1})["time"] == kept["time"]
    )


def test_many_readings_in_one_message() -> None:
    """An array at the top, at a path, or by the names of devices; with values of the envelope."""
    pair = [{"t": 1}, {"t": 2}]
    assert [one["temperature"] for one in rows(Form(each="*"), pair)] == [1, 2]
    nested = {"gateway": "g1", "data": {"readings": pair}}
    found = rows(Form(each="data.readings.*"), nested)
    assert [(one["temperature"], one["gateway"]) for one in found] == [(1, "g1"), (2, "g1")]
    by_name = rows(Form(each="{serial}.*"), {"a": pair, "b": [{"t": 3}]})
    assert [(one["serial"], one["temperature"]) for one in by_name] == [("a", 1), ("a", 2), ("b", 3)]
    assert [one["temperature"] for one in rows(Form(each="*"), {"t": 7})] == [7]


def test_wrong_readings_are_named_by_index_and_the_others_are_rows() -> None:
    """One refusal for all of them."""
    found = domain(Form(each="*")).read(
        "t/x/y", written([{"t": 1}, {"t": "a"}, {"t": 3}, 5, {"t": None}]), ARRIVAL_MS, LIMITS
    )
    assert [index for index, _ in found.readings] == [0, 2]
    assert [index for index, _ in found.wrong] == [1, 3]
    assert found.refused is not None
    assert found.refused.error_type == "InvalidField"
    assert found.refused.reason == (
        "2 of 5 readings are wrong, by index 1, 3: [1] `sensor.temperature` must be a finite number,"
        ' got the string "a"; [3] a reading must be a JSON object, got the number 5'
    )


def test_the_number_of_readings_is_bounded() -> None:
    """A message of more of them than a batch could take is refused whole; so is one whose rows explode."""
    (found,) = refused(Form(each="*"), [{"t": 1}] * (MOST_READINGS + 1))
    assert (found["index"], found["error_type"]) == (None, "TooLarge")
    shared = {"gateway": "x" * 200_000, "data": [{"t": 1}] * 100}
    (found,) = refused(Form(each="data.*"), shared)
    assert (found["index"], found["error_type"]) == (None, "TooLarge")


def test_a_function_of_the_domain() -> None:
    """It makes the readings. Without any the message is ignored, and an error refuses it."""

    def unpack(value: Any, names: Any) -> Any:
        if value["kind"] == "bad":
            raise ValueError("is bad")
        return [{"t": one, "serial": names["kind"]} for one in value["values"]]

    form = Form(unpack=unpack)
    assert [one["serial"] for one in rows(form, {"kind": "good", "values": [1, 2]})] == ["y", "y"]
    assert rows(form, {"kind": "good", "values": []}) == []
    assert refused(form, {"kind": "bad"})[0]["reason"] == "the payload is bad"
    assert "(KeyError: 'kind')" in refused(form, {})[0]["reason"]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(
    ("value", "error_type"),
    [
        (object(), "InvalidField"),
        ("\ud800", "LoneSurrogate"),
        (float("inf"), "NotFinite"),
        (json.loads("[" * 300 + "]" * 300), "TooDeep"),
    ],
)
def test_what_a_function_makes_beyond_json_is_refused(value: Any, error_type: str, *, timed: bool) -> None:
    """It refuses its reading alone: the others of the message are rows."""
    time = {"time": "2026-11-20T10:00:00Z"} if timed else {}
    made = domain(Form(unpack=lambda _value, _names: [{"t": 1, **time}, {"t": 1, "x": value, **time}]))
    found = made.read("t/x/y", b"{}", ARRIVAL_MS, LIMITS)
    assert [index for index, _ in found.readings] == [0]
    assert [(index, refused.error_type) for index, refused in found.wrong] == [(1, error_type)]


def test_a_bare_value_has_the_name_of_its_topic() -> None:
    """So that rules and columns can name it."""
    form = Form(encodings=("text",), value="{kind}", numbers="unit")
    made = domain(form)
    outcome = made.read("t/x/count", b"5", ARRIVAL_MS, LIMITS)
    assert row_of(made, "t/x/count", outcome.readings[0][1])["count"] == 5
    assert outcome.readings[0][1].payload["count"] == 5
    other = made.read("t/x/speed", b"12 km/h", ARRIVAL_MS, LIMITS).readings[0][1]
    assert row_of(made, "t/x/speed", other)["extra_data"] == {"speed": 12, "unit": "km/h", "kind": "speed"}


def test_rules_see_the_values_of_columns_by_their_names() -> None:
    """Converted; and the rest by its own path."""
    made = domain(Form(numbers="unit"))
    reading = made.read(
        "t/x/y", written({"sensor": {"temperature": "5 C"}, "a": {"b": 1}}), ARRIVAL_MS, LIMITS
    )
    payload = reading.readings[0][1].payload
    assert (payload["temperature"], payload["a"]["b"]) == (5, 1)


def test_only_declared_extras_are_kept() -> None:
    """By their names; without a value they are left out."""
    form = Form(extras={"rssi": "rx.0.rssi", "snr": "rx.0.snr"})
    assert row(form, {"t": 1, "rx": [{"rssi": -7}], "more": 1})["extra_data"] == {"rssi": -7, "kind": "y"}


def test_a_redelivery_has_the_fingerprint_of_the_first() -> None:
    """With a time of its own a reading is known by what it says; without one, by its place in Kafka."""
    made = domain(Form(each="*"))

    def prints(payload: Any, offset: int) -> list[int]:
        found = made.read("t/x/y", written(payload), ARRIVAL_MS, LIMITS, place=(1, offset))
        return [reading.fields.reading_id for _, reading in found.readings]

    timed = {"t": 1, "time": "2026-11-20T10:00:00Z"}
    assert prints([timed], 7) == prints([timed], 8) != prints([{**timed, "t": 2}], 7)
    assert prints([{"t": 1}], 7) == prints([{"t": 1}], 7) != prints([{"t": 1}], 8)
    assert len(set(prints([{"t": 1}, {"t": 1}], 7))) == 2


@pytest.mark.parametrize("encoding", ["json", "text"])
def test_the_name_of_a_value_is_part_of_its_fingerprint(encoding: Any) -> None:
    """Two values of one device that have the same time are two rows."""
    made = domain(Form(encodings=(encoding,), value="{kind}", times=(When("ts", "s"),)))
    payload = written({"value": 5, "ts": ARRIVAL_MS // 1000})
    inside, outside, again = (
        made.read(f"t/x/{kind}", payload, ARRIVAL_MS, LIMITS).readings[0][1].fields.reading_id
        for kind in ("inside", "outside", "inside")
    )
    assert inside == again != outside


def test_the_source_may_be_a_field() -> None:
    """A member of the payload; an id that cannot be one is refused."""

    class Named(Record):
        time: Time | None = None
        device: Text
        value: Double

    made = domain(Form(each="*"), Named, topic="gateway/telemetry", primary_key=("time", "device"))
    found = made.read("gateway/telemetry", written([{"device": "Meter 12", "value": 1}]), ARRIVAL_MS, LIMITS)
    assert found.readings[0][1].source == ("o", "d/Meter 12")
    found = made.read("gateway/telemetry", written([{"device": "a\nb", "value": 1}]), ARRIVAL_MS, LIMITS)
    assert found.refused is not None
    assert "control characters" in found.refused.reason


@given(
    payload=VALUES
    | st.dictionaries(st.sampled_from(["t", "sensor", "count", "door", "time", "gateway", "tags"]), VALUES)
    | st.lists(
        st.dictionaries(st.sampled_from(["t", "time", "serial", "state", "price"]), VALUES), max_size=4
    ),
    form=st.sampled_from(
        [
            Form(),
            Form(each="*", numbers="unit", decimal_comma=True),
            Form(each="{serial}.*"),
            Form(encodings=("text",), value="{kind}"),
            Form(times=(When("time", "iso", "epoch"),), clock=Clock(outside="arrival"), absent=frozenset()),
        ]
    ),
)
def test_any_payload_has_one_outcome(payload: Any, form: Form) -> None:
    """Rows that jsonb can hold, or refusals of at most 300 characters; always the same; nothing else."""
    made = domain(form)
    content = written(payload)

    def outcome() -> Any:
        try:
            return made.read("t/x/y", content, ARRIVAL_MS, LIMITS)
        except Refused as refused:
            return str(refused)

    found = outcome()
    if isinstance(found, str):
        assert found == outcome()
        return
    again = outcome()
    assert [one.copy_line for _, one in found.readings] == [one.copy_line for _, one in again.readings]
    for _, reading in found.readings:
        assert reading.copy_line.count(b"\n") == 1
        json.dumps(row_of(made, "t/x/y", reading))
    assert all(len(one.reason) <= 300 for _, one in found.wrong)


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        (lambda: Form(encodings=("yaml",)), "not an encoding"),  # type: ignore[arg-type]
        (lambda: Form(numbers="any"), "strict, text or unit"),  # type: ignore[arg-type]
        (lambda: Form(each="*", unpack=lambda value, _: value), "either"),
        (lambda: Form(ignored=("a/#",)), "topic"),
    ],
)
def test_forms_that_cannot_be(form: Any, fault: str) -> None:
    """Refused when they are declared."""
    with pytest.raises(TypeError, match=fault):
        form()
