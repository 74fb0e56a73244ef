"""Stored rows become the payloads that they came from."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import Field

from ingest.admin.domains.domain_try import load, row_of
from tasks.domain import (
    Boolean,
    Domain,
    Double,
    Fingerprint,
    Form,
    Numeric,
    Record,
    Time,
    TopicLevel,
    Uuid,
    at,
)
from tasks.domain.payload import Limits
from tasks.domain.stored import keeps_all, payload_of
from tasks.rules.condition import kind_of
from tasks.telemetry import DOMAIN
from tasks.text.paths import MISSING, steps, walk
from tests.device_page import Promise, promises

PROMISES = [one for one in promises() if one.rows]
# Times, by which no rule compares.
TIMES = {
    "time",
    "Time",
    "Epoch",
    "last_seen",
    "received_at",
    "received",
    "ts",
    "tst",
    "timestamp",
    "created_at",
}


def test_a_row_is_the_payload_that_it_came_from() -> None:
    """It holds neither what the topic said nor what was not sent; a number is a number."""
    row = {
        "time": datetime(2026, 5, 1, tzinfo=UTC),
        "user_id": "u",
        "device_id": "d",
        "sequence_id": 7,
        "temperature": Decimal("20.5"),
        "battery": None,
        "extra_data": {"leak": True, "battery_v": 3.1},
    }
    assert payload_of(DOMAIN, row) == {"sequence_id": 7, "temperature": 20.5, "leak": True, "battery_v": 3.1}


def test_a_value_that_moved_to_the_extras_has_its_old_name() -> None:
    """A rehearsal of rules finds the battery in its column and, if it has a fraction, in the extras."""
    row = {"time": datetime(2026, 5, 1, tzinfo=UTC), "user_id": "u", "device_id": "d", "sequence_id": 7}
    moved = {**row, "temperature": None, "battery": None, "extra_data": {"battery": 85.5}}
    kept = {**row, "temperature": None, "battery": 85, "extra_data": None}
    assert payload_of(DOMAIN, moved) == {"sequence_id": 7, "battery": 85.5}
    assert payload_of(DOMAIN, kept) == {"sequence_id": 7, "battery": 85}


class Parcel(Record):
    """A field whose member has another name, and kinds that are strings in JSON."""

    parcel: TopicLevel
    time: Time
    due: Time
    order: Uuid
    weight: Numeric = Field(alias="kg")


def test_members_have_the_names_and_kinds_of_the_payload() -> None:
    """Rules about a domain without a form name the members of the payload, not the columns."""
    parcels = Domain(
        Parcel,
        name="parcels",
        topic="p/{parcel}",
        owner="o",
        source="{parcel}",
        table="raw_parcels",
        primary_key=("time", "parcel"),
        extra=None,
    )
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    row = {"time": moment, "parcel": "p", "due": moment, "order": UUID(int=1), "weight": Decimal("1.5")}
    assert payload_of(parcels, row) == {
        "due": "2026-05-01T00:00:00Z",
        "order": "00000000-0000-0000-0000-000000000001",
        "kg": 1.5,
    }


class Value(Record):
    """A reading of a domain with a form."""

    device: TopicLevel
    time: Time | None = None
    temperature: Double | None = at("BME280.Temperature", "DS18B20.Temperature")
    value: Double | None = at("value", keep_others=True)
    level: Double | None = at("/gateway.level")
    is_open: Boolean | None = at("door", true=["open"], false=["closed"])
    reading_id: Fingerprint


def formed(form: Form) -> Domain[Value]:
    """The domain of such readings."""
    return Domain(
        Value,
        name="values",
        topic="N/{device}/{_portal}/{path...}",
        owner="home",
        source="{device}",
        table="raw_values",
        primary_key=("time", "device", "reading_id"),
        form=form,
    )


@pytest.mark.parametrize(
    ("form", "payload"),
    [
        (Form(), {"BME280": {"Temperature": 18.7, "Humidity": 61.2}, "POWER": "ON"}),
        (Form(), {"DS18B20": {"Temperature": 4}, "deep": {"er": [1, {"a": None}]}}),
        (Form(), {"gateway": {"level": 3, "id": "g"}, "door": "open"}),
        (Form(value="{path}"), {"value": 412.0, "max": 60}),
        (Form(value="{path}"), {"value": "c0619"}),
        (Form(extras={"rssi": "rx.0.rssi", "port": "port"}), {"value": 1, "rx": [{"rssi": -97}], "port": 2}),
    ],
)
def test_a_row_of_a_form_has_what_rules_saw(form: Form, payload: dict[str, Any]) -> None:
    """Fields by their names and at their paths, and a value by the name that its topic gives it."""
    domain, topic = formed(form), "N/solar/x/Yield/Power"
    ((_, reading),) = domain.read(topic, json.dumps(payload).encode(), 1_795_165_200_000, Limits()).readings
    found = payload_of(domain, row_of(domain, topic, reading))

    def at_path(seen: dict[str, Any], path: str) -> Any:
        value = walk(seen, steps(path) or (path,))
        return None if value is MISSING else value

    paths = ["temperature", "value", "BME280.Temperature", "BME280.Humidity", "POWER", "Yield/Power", "max"]
    for path in (
        *paths,
        "path",
        "rx.0.rssi",
        "port",
        "level",
        "gateway.level",
        "deep.er.0",
        "door",
        "reading_id",
    ):
        expected = at_path(reading.payload, path)
        # The row does not say which of several paths had the value.
        if path != "BME280.Temperature" or "DS18B20" not in payload:
            assert at_path(found, path) == expected, path


def test_rows_that_lack_something_say_so() -> None:
    """A value that is missing in them proves nothing."""
    assert keeps_all(DOMAIN)
    assert keeps_all(formed(Form()))
    assert not keeps_all(formed(Form(extras={"rssi": "rx.0.rssi"})))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda one: f"{Path(one.file).stem} {one.payload[:30]!r}")
def test_rules_see_of_stored_rows_what_they_saw_of_the_readings(promise: Promise) -> None:
    """Each value of each message of the page, at each of its paths, of the same kind."""
    domain = load(promise.file)
    for _, reading in domain.read(promise.topic, promise.payload, 1_795_165_300_000, Limits()).readings:
        row = row_of(domain, promise.topic, reading)
        before = json.dumps(row)
        stored = dict(_kinds(payload_of(domain, row), ()))
        seen = dict(_kinds(reading.payload, ()))
        assert {path: stored.get(path) for path in seen} == seen
        assert json.dumps(row) == before


def _kinds(value: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The kinds of the values that rules can compare, by their places."""
    if isinstance(value, dict):
        for name, one in value.items():
            if place or name not in TIMES:
                yield from _kinds(one, (*place, name))
    elif type(value) in {int, float, str, bool}:
        yield place, kind_of(value)
