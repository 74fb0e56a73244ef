"""Victron Venus OS: one value a topic, its name the end of the topic, without a time."""

from tasks.domain import Domain, Double, Fingerprint, Form, Record, Time, TopicLevel, at


class Value(Record):
    """`N/c0619ab10001/solarcharger/279/Yield/Power`: `{"value": 412.0}`.

    Text and arrays stay in the extra column. A rule's key may be `value`, or the name, `Yield/Power`.
    """

    device: TopicLevel  # portal, service and instance
    time: Time | None = None
    value: Double | None = at("value", keep_others=True)
    reading_id: Fingerprint


DOMAIN = Domain(
    Value,
    name="victron",
    topic="N/{device*3}/{path...}",
    owner="home",
    source="{device}",
    account="venus",
    table="raw_victron",
    primary_key=("time", "device", "reading_id"),
    # No value is `null`, `[]` or no payload at all.
    form=Form(value="{path}", ignored=("N/{_portal}/{_what:heartbeat|keepalive|full_publish_completed}",)),
)
