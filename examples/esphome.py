"""ESPHome: one bare value a topic, without a time, retained; `nan` until there is a value."""

from typing import Any

from tasks.domain import Domain, Double, Fingerprint, Form, Record, Time, TopicLevel, at, scalar

KINDS = "sensor|binary_sensor|text_sensor|switch|number|select|light|fan|cover|climate|lock|button|event"


class State(Record):
    """`greenhouse/sensor/air_temperature/state`: `21.50`. Fields without a column are extra."""

    device: TopicLevel
    time: Time | None = None
    temperature: Double | None = at(keep_others=True)
    air_temperature: Double | None = at(keep_others=True)
    humidity: Double | None = at(keep_others=True)
    reading_id: Fingerprint


def unpack(value: Any, names: Any) -> list[Any]:
    """One value, by the name of its object; a light sends an object."""
    text = names["component"] == "text_sensor"
    return [value if isinstance(value, dict) else {names["_object"]: value if text else scalar(value)}]


DOMAIN = Domain(
    State,
    name="esphome",
    topic=f"{{device...}}/{{component:{KINDS}}}/{{_object}}/state",
    owner="home",
    source="{device}",
    account="esphome",  # all devices share it
    table="raw_esphome",
    primary_key=("time", "device", "reading_id"),
    form=Form(encodings=("text",), unpack=unpack, ignored=("{_d...}/{_what:status|debug}",)),
)
