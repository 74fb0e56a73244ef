"""The telemetry of devices, the domain that Sluice comes with.

Declared here once; its validation, table, columns and COPY text follow from it, as for every domain.
"""

from tasks.domain import Bigint, Domain, Double, Integer, Record, Time, TopicLevel


class Telemetry(Record):
    """The declared fields of a device's message; any others go to `extra_data`.

    `time` is ISO 8601 with a UTC offset, kept to the microsecond. Null for an optional field means absent.
    """

    user_id: TopicLevel
    device_id: TopicLevel
    time: Time | None = None
    sequence_id: Bigint
    temperature: Double | None = None
    battery: Integer | None = None


DOMAIN = Domain(
    Telemetry,
    name="telemetry",
    # The names of its Kafka topics, and of the devices in its alerts, have no prefix.
    namespace="",
    topic="users/{user_id}/devices/{device_id}/telemetry",
    owner="{user_id}",
    source="{device_id}",
    table="raw_telemetry",
    primary_key=("time", "user_id", "device_id", "sequence_id"),
)
