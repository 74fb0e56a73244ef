"""A domain whose topics do not name their owner: the access lists decide."""

from tasks.domain import Domain, Double, Fingerprint, Form, Owner, Record, Time, TopicLevel


class State(Record):
    """`tele/cellar/SENSOR`: `{"temperature": 21.5}`."""

    user: Owner
    device: TopicLevel
    time: Time | None = None
    temperature: Double | None = None
    reading_id: Fingerprint


DOMAIN = Domain(
    State,
    name="unowned",
    topic="tele/{device}/SENSOR",
    owner="{user}",
    source="{device}",
    table="raw_unowned",
    primary_key=("time", "user", "device", "reading_id"),
    form=Form(),
)
