"""Zigbee2MQTT: one message repeats all that is known of a device; `last_seen` is off by default."""

from tasks.domain import Clock, Domain, Double, Fingerprint, Form, Integer, Record, Time, TopicLevel, When


class State(Record):
    """`zigbee2mqtt/kitchen`: `{"temperature": 21.34, "last_seen": "2026-11-20T08:59:58.120Z"}`."""

    device: TopicLevel  # a friendly name may hold blanks and slashes
    time: Time | None = None
    temperature: Double | None = None
    humidity: Double | None = None
    battery: Double | None = None
    linkquality: Integer | None = None
    reading_id: Fingerprint


DOMAIN = Domain(
    State,
    name="zigbee2mqtt",
    topic="zigbee2mqtt/{device...}",
    owner="home",
    source="{device}",
    account="zigbee2mqtt",  # one bridge publishes for all its devices
    table="raw_zigbee2mqtt",
    primary_key=("time", "device", "reading_id"),
    form=Form(
        times=(When("last_seen", "iso", "epoch"),),
        clock=Clock(outside="arrival"),
        numbers="text",
        ignored=(
            "zigbee2mqtt/bridge/{_about...}",
            "zigbee2mqtt/{_name...}/{_what:availability|set|get}",
            "zigbee2mqtt/{_name...}/{_what:set|get}/{_attribute}",
        ),
    ),
)
