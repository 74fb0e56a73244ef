"""The domains that the end-to-end tests run on: what their sources send, and what must become of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import examples.finance
import examples.logistics
import tasks.telemetry
from tasks.domain.domain import AnyDomain

MODULES = ("tasks.telemetry", "examples.logistics", "examples.finance")

Payload = dict[str, Any]
Make = Callable[[int, datetime], Payload]


@dataclass(frozen=True)
class Sample:
    """A domain, and how to make messages of it: the `number` makes each another one."""

    domain: AnyDomain
    user: str | None  # whose the sources are, where it is always the same
    make: Make
    violating: Make
    spoil: Payload  # members that make any message a bad one
    columns: tuple[str, ...]  # the columns of `row`
    row: Callable[[Payload], tuple[Any, ...]]
    rule_id: str
    message: str
    value: float | None
    rules: tuple[Payload, ...] = ()

    def topic(self, user: str, source: str) -> str:
        """The MQTT topic of a source."""
        topic = self.domain.topic_of(user, source)
        assert topic is not None
        return topic

    def owner(self, run: str) -> str:
        """The user of a test."""
        return self.user or run

    def source(self, run: str, number: int = 0) -> str:
        """A source of a test."""
        return f"{run}-{number}"


def _time(payload: Payload) -> datetime:
    return datetime.fromisoformat(payload["time"])


def _reading(number: int, time: datetime) -> Payload:
    return {"sequence_id": number, "time": time.isoformat(), "temperature": 20.5, "name": "Kühlraum"}


def _package(number: int, time: datetime) -> Payload:
    # As short in Python as PostgreSQL writes it.
    lon, lat = round(8 + number / 1000, 3), 47.0
    return {
        "time": time.isoformat(),
        "status": "IN_TRANSIT",
        "location": f"POINT({lon} {lat})" if number % 2 else {"type": "Point", "coordinates": [lon, lat]},
        "truck": {"number": number},
    }


def _place(payload: Payload) -> str:
    place = payload["location"]
    lon, lat = place["coordinates"] if isinstance(place, dict) else map(float, place[6:-1].split())
    return f"({lon:g},{lat:g})"


def _tick(number: int, time: datetime) -> Payload:
    return {"time": time.isoformat(), "price": f"{100 + number}.0100", "volume": number, "venue": "X"}


def _crashed(number: int, time: datetime) -> Payload:
    return _tick(number, time) | {"price": -1.5}


TELEMETRY = Sample(
    tasks.telemetry.DOMAIN,
    user=None,
    make=_reading,
    violating=lambda number, time: _reading(number, time) | {"temperature": 91.5},
    spoil={"sequence_id": "bad"},
    columns=("time", "sequence_id", "temperature", "battery", "extra_data"),
    row=lambda sent: (_time(sent), sent["sequence_id"], sent["temperature"], None, {"name": sent["name"]}),
    rule_id="temperature",
    message="too hot",
    value=91.5,
    rules=({"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"},),
)
LOGISTICS = Sample(
    examples.logistics.DOMAIN,
    user=None,
    make=_package,
    violating=lambda number, time: _package(number, time) | {"status": "DELAYED"},
    spoil={"status": "LOST"},
    columns=("time", "status", "location::text", "extra_data"),
    row=lambda sent: (_time(sent), sent["status"], _place(sent), {"truck": sent["truck"]}),
    rule_id="DeliveryDelay",
    message="parcel {source} is delayed",
    value=None,
)
FINANCE = Sample(
    examples.finance.DOMAIN,
    user="desk",
    make=_tick,
    violating=_crashed,
    spoil={"volume": "many"},
    columns=("time", "price", "volume"),
    row=lambda sent: (_time(sent), Decimal(sent["price"]), sent["volume"]),
    rule_id="PriceCrash",
    message="{source} is at -1.5, below 0",
    value=-1.5,
)
SAMPLES = (TELEMETRY, LOGISTICS, FINANCE)


def written(payload: Payload) -> bytes:
    """The payload as it is sent."""
    return json.dumps(payload, ensure_ascii=False).encode()
