"""A domain whose topics do not name their owner: the access lists decide."""

from tasks.domain import Domain, Double, Fingerprint, Form, Owner, Presence, Record, Time, TopicLevel


class State(Record):
    """`unowned/cellar/reading`: `{"temperature": 21.5}`; `unowned/cellar/status`: `online` or `offline`."""

    user: Owner
    device: TopicLevel
    time: Time | None = None
    temperature: Double | None = None
    reading_id: Fingerprint


DOMAIN = Domain(
    State,
    name="unowned",
    topic="unowned/{device}/reading",
    owner="{user}",
    source="{device}",
    table="raw_unowned",
    primary_key=("time", "user", "device", "reading_id"),
    form=Form(presence=(Presence("unowned/{device}/status"),)),
)
