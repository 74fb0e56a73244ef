"""Parcels on their way: a message for each time that one is seen, and an alert while it is late."""

from enum import StrEnum

from tasks.domain import Alert, Domain, Point, Record, Time, TopicLevel


class Status(StrEnum):
    """Where a parcel stands."""

    ACCEPTED = "ACCEPTED"
    IN_TRANSIT = "IN_TRANSIT"
    DELAYED = "DELAYED"
    DELIVERED = "DELIVERED"


class Package(Record):
    """A message of a scanner: `{"status": "DELAYED", "location": "POINT(8.54 47.38)"}`.

    Where the database has PostGIS, `GeoPoint` in the place of `Point` makes a column
    `geometry(Point,4326)` of the same messages.
    """

    user_id: TopicLevel
    package_id: TopicLevel
    time: Time | None = None
    status: Status
    location: Point | None = None


def delivery_delay(package: Package) -> Alert | None:
    """Late from the first message that says so to the first that says something else."""
    if package.status is Status.DELAYED:
        return Alert(f"parcel {package.package_id} is delayed", severity="critical")
    return None


DOMAIN = Domain(
    Package,
    name="packages",
    topic="users/{user_id}/packages/{package_id}/status",
    owner="{user_id}",
    source="{package_id}",
    table="raw_packages",
    primary_key=("time", "user_id", "package_id"),
    checks={"DeliveryDelay": delivery_delay},
)
