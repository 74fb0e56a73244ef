"""The same domain with one optional field more, and one more state."""

from typing import Literal

from tasks.domain.columns import Bigint, Double, Time, TopicLevel
from tasks.domain.domain import Domain
from tasks.domain.record import Record


class Crate(Record):
    """A crate that was seen, and maybe weighed."""

    user_id: TopicLevel
    crate_id: TopicLevel
    time: Time | None = None
    number: Bigint
    state: Literal["FULL", "EMPTY", "LOST"]
    weight: Double | None = None


DOMAIN = Domain(
    Crate,
    name="crates",
    topic="users/{user_id}/crates/{crate_id}",
    owner="{user_id}",
    source="{crate_id}",
    table="raw_crates",
    primary_key=("time", "user_id", "crate_id", "number"),
)
