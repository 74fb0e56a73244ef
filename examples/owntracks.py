"""OwnTracks: where phones are. Other kinds of message come on the same topic, and some are encrypted."""

from typing import Any

from tasks.domain import Clock, Domain, Double, Fingerprint, Form, Record, Time, TopicLevel, When


class Location(Record):
    """`owntracks/fleet/van-7`: `{"_type": "location", "tst": 1795165200, "lat": 52.5163, "lon": 13.3777}`."""

    user: TopicLevel
    device: TopicLevel
    time: Time | None = None
    lat: Double
    lon: Double
    acc: Double | None = None
    batt: Double | None = None
    vel: Double | None = None
    reading_id: Fingerprint


def unpack(value: Any, _names: Any) -> list[Any]:
    """A location is a reading; a last will, a waypoint or a card is none."""
    kind = value["_type"]
    if kind == "encrypted":
        raise ValueError("is encrypted; take the secret off the app, or send it as it is over TLS")
    return [value] if kind == "location" else []


DOMAIN = Domain(
    Location,
    name="owntracks",
    topic="owntracks/{user}/{device}",
    owner="{user}",
    source="{device}",
    table="raw_owntracks",
    primary_key=("time", "user", "device", "reading_id"),
    form=Form(unpack=unpack, times=(When("tst", "s"),), clock=Clock(outside="arrival"), numbers="text"),
)
