"""A bare number, word or boolean on a topic whose last level is its name, without a time."""

from tasks.domain import NO_VALUE, Domain, Double, Fingerprint, Form, Record, Time, TopicLevel, at


class Value(Record):
    """`home/boiler/flow_temperature`: `21.5`, `21.5 °C`, `21,5`, `ON`. Fields without a column are extra."""

    device: TopicLevel  # the level before the last
    time: Time | None = None
    temperature: Double | None = at(keep_others=True)
    flow_temperature: Double | None = at(keep_others=True)
    humidity: Double | None = at(keep_others=True)
    power: Double | None = at(keep_others=True)
    reading_id: Fingerprint


DOMAIN = Domain(
    Value,
    name="number",
    topic=("home/{device}/{_quantity}", "home/{place...}/{device}/{_quantity}"),
    owner="home",
    source="{device}",
    account="number",  # all devices share it
    table="raw_number",
    primary_key=("time", "device", "reading_id"),
    form=Form(
        encodings=("text",),
        value="{_quantity}",
        decimal_comma=True,
        absent=NO_VALUE | {"online", "offline"},
        ignored=("home/{_device}/${_attribute}", "home/{_place...}/{_device}/${_attribute}"),
    ),
)
