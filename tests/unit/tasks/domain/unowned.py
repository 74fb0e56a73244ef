"""A domain whose topics name no owner."""

from tasks.domain import Domain, Double, Fingerprint, Form, Owner, Record, Time, TopicLevel


class State(Record):
    """`tele/cellar/SENSOR`."""

    user: Owner
    device: TopicLevel
    time: Time | None = None
    temperature: Double | None = None
    reading_id: Fingerprint


def declared(owner: str = "{user}", record: type[Record] = State, *, form: bool = True) -> Domain[Record]:
    """A domain whose topics name no owner."""
    return Domain(
        record,
        name="states",
        topic="tele/{device}/SENSOR",
        owner=owner,
        source="{device}",
        table="raw_states",
        primary_key=("time", "user", "device", "reading_id"),
        form=Form() if form else None,
    )


DOMAIN = declared()

TOPIC = "tele/cellar/SENSOR"
